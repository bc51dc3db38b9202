"""The studio as a web server: the page at /, the host's HTTP routes under /sdapi/v1."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sd_prism.errors import PrismError
from sd_prism.studio import host

if TYPE_CHECKING:
    from fastapi import FastAPI

    from sd_prism.studio.served import Served

PORTS_TRIED = 50
LAST_PORT = 65535
BACKLOG = 2048
SECONDS_TO_LEAVE = 1.5
LISTEN_WARNING = (
    "Warning: with --listen everybody on your network can use this studio and the computer it runs on; "
    "there is no password."
)


def build(
    *,
    data_dir: str | Path | None = None,
    checkpoint: str | Path | None = None,
    extensions: Sequence[str | Path] = (),
    builtin: bool = True,
    api_auth: str | None = None,
    lora_dir: str | Path | None = None,
) -> Served:
    """The app, not served.

    Args:
        extensions: further extension folders.
        builtin: load Prism's own scripts too.
        api_auth: "user:password,user2:password2", who may use the routes under /sdapi; everybody when left out.
        lora_dir: where networks lie, if not in models/Lora of the data folder.
    """
    folder = host.data_folder(data_dir)
    os.environ.setdefault("GRADIO_TEMP_DIR", str(folder / "cache" / "gradio"))
    host.open_host(data_dir=data_dir, checkpoint=checkpoint, extensions=extensions, builtin=builtin, lora_dir=lora_dir)
    from modules import shared

    from sd_prism.studio.served import Served

    shared.cmd_opts.api_auth = api_auth
    served = Served(_app)

    def rebuild() -> None:
        old = shared.demo
        served.rebuild()
        old.close(verbose=False)

    host.after_reload(rebuild)
    return served


def _app() -> FastAPI:
    """The page and all routes, those that scripts add too."""
    import gradio as gr
    from modules import paths, script_callbacks, shared

    from sd_prism.studio import api, page

    demo = shared.demo = page.build()
    app = api.create()
    script_callbacks.app_started_callback(demo, app)
    api.refuse_other_methods(app)
    # Mounted last, because "/" takes every path that no route before it took.
    return gr.mount_gradio_app(
        app,
        demo,
        path="/",
        allowed_paths=[os.path.join(paths.data_path, "outputs")],
        theme=page.theme(),
        head=page.head(demo),
        css_paths=[page.HERE / "page.css"],
        footer_links=[],
        ssr_mode=False,
        show_error=True,
    )


def free_socket(host: str, port: int) -> socket.socket:
    """A socket that listens on `port`, or on the next one that is free."""
    if not 0 <= port <= LAST_PORT:
        raise PrismError(f"--port is {port}; it must lie between 0 (any free port) and {LAST_PORT}")
    last = min(port + PORTS_TRIED - 1, LAST_PORT)
    for candidate in range(port, last + 1):
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, candidate))
            # Listening now is what keeps a second start off this port.
            bound.listen(BACKLOG)
            return bound
        except OSError as error:
            bound.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
    raise PrismError(f"Ports {port} to {last} are all taken; choose another with --port")


def network_address() -> str | None:
    """This machine's address on its network, None without one; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _load_in_background() -> None:
    """Load the checkpoint while the user types, and say so if that fails."""
    from modules import shared

    def load() -> None:
        try:
            assert shared.sd_model
        except PrismError as error:
            print(error, file=sys.stderr)

    threading.Thread(target=load, name="model", daemon=True).start()


def _leave_on_signals(server: Any) -> None:
    """End within two seconds and with exit code 0, whatever connections are open or threads at work."""

    def leave(number: int, frame: Any) -> None:
        from modules import shared

        shared.state.interrupt()
        # Open pages keep a connection; cutting it is no error worth a traceback.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        server.should_exit = True
        timer = threading.Timer(SECONDS_TO_LEAVE, os._exit, [0])
        timer.daemon = True
        timer.start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)


def start(
    *,
    port: int = 7860,
    listen: bool = False,
    data_dir: str | Path | None = None,
    checkpoint: str | Path | None = None,
    open_browser: bool = True,
    extensions: Sequence[str | Path] = (),
    builtin: bool = True,
    api_auth: str | None = None,
    lora_dir: str | Path | None = None,
) -> int:
    """Serve until Ctrl+C; returns the exit code. A taken port gives the next free one."""
    bound = free_socket("0.0.0.0" if listen else "127.0.0.1", port)
    real = bound.getsockname()[1]
    if port and real != port:
        print(f"Port {port} is taken; using {real} instead.", flush=True)
    if listen:
        print(LISTEN_WARNING, file=sys.stderr, flush=True)
    app = build(
        data_dir=data_dir,
        checkpoint=checkpoint,
        extensions=extensions,
        builtin=builtin,
        api_auth=api_auth,
        lora_dir=lora_dir,
    )
    import uvicorn
    from modules import call_queue, shared

    shared.cmd_opts.port, shared.cmd_opts.listen = real, listen
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=0))
    # uvicorn would install handlers of its own, which wait for open connections.
    server.capture_signals = _no_signals  # type: ignore[method-assign,assignment]
    _leave_on_signals(server)
    _load_in_background()
    address = f"http://127.0.0.1:{real}"
    print(f"Prism studio: {address}", flush=True)
    outside = network_address() if listen else None
    if outside:
        print(f"On your network: http://{outside}:{real}", flush=True)
    if open_browser:
        threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
    server.run(sockets=[bound])
    # A job that is writing its picture may finish that; its thread must not hold the process for longer.
    call_queue.queue_lock.acquire(timeout=SECONDS_TO_LEAVE / 2)
    sys.stdout.flush()
    os._exit(0)


def _no_signals() -> Any:
    import contextlib

    return contextlib.nullcontext()
