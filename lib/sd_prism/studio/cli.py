"""The commands of `python prism.py`, inside the environment."""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import doctor
from ..cards import live
from ..cards.preset import CARD
from ..errors import PrismError, UnknownName
from ..settings import NAMESPACES, PANELS
from . import presets

if TYPE_CHECKING:
    from .header import Header

ROOT = Path(__file__).resolve().parents[3]
WEBUIS = "PRISM_TEST_WEBUIS"  # a JSON list of {path, python, args}, for tests/contract
MINUS = re.compile("-[^-].*[:：]")  # -species:dog is a text, which argparse takes for one only behind a blank
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
MAX_WORKERS = 4  # of the tests; each holds a torch, a studio and a browser: some 2 GB


def main(argv: Sequence[str]) -> int:
    """Runs one command; a PrismError becomes one line on stderr and exit code 2."""
    argv = [f" {one}" if MINUS.match(one) else one for one in argv]
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        argv.insert(0, "studio")
    try:
        if not argv[0].startswith("-") and argv[0] not in COMMANDS:
            raise UnknownName("command", argv[0], COMMANDS)
        args, rest = parser().parse_known_args(argv)
        if rest and args.command != "test":
            raise UnknownName("option" if rest[0].startswith("-") else "argument", rest[0], options_of(args.command))
        return COMMANDS[args.command](args, rest)
    except PrismError as error:
        print(f"prism: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="prism.py", description="Prism: a webui that follows the model's card.")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    studio = commands.add_parser("studio", help="open the studio in the browser (the default)")
    studio.add_argument("--port", type=int, default=7860, help="the next free one is taken if it is busy")
    studio.add_argument("--listen", action="store_true", help="let other machines of the network in")
    studio.add_argument(
        "--api-auth",
        metavar="USER:PASSWORD[,...]",
        help="who may use the HTTP routes (default: everybody who gets there)",
    )
    studio.add_argument("--no-browser", action="store_true", help="do not open a browser window")
    _common(studio)

    generate = commands.add_parser("generate", help="draw a picture without a browser")
    generate.add_argument("prompt", type=_text)
    for flag, kind, _, text in GENERATE:
        generate.add_argument(f"--{flag}", type=kind, help=text)
    generate.add_argument("--init-image", type=Path, help="a picture to start from")
    generate.add_argument("--mask", type=Path, help="a picture whose white part of --init-image is drawn anew")
    generate.add_argument(
        "--card", metavar="NAME", help="draw by a model's card, auto: the checkpoint's own; options that are given win"
    )
    generate.add_argument("--out", type=Path, default=Path("picture.png"), help="the PNG to write")
    generate.add_argument("--json", action="store_true", help="print what was done as JSON")
    _common(generate)
    for panel in PANELS:
        group = generate.add_argument_group(panel.title, panel.doc)
        for flag, keywords in panel.options():
            group.add_argument(flag, **keywords)

    render = commands.add_parser("render", help="print a prompt as a model's text encoder should get it")
    render.add_argument("prompt", type=_text)
    render.add_argument("--negative", type=_text, default="", help="the negative prompt, printed on a second line")
    render.add_argument("--target", default="a1111", help="the program that will read it")
    render.add_argument("--registry", type=Path, help="a JSON file of namespaces beside the shipped ones")
    for name in RENDER:
        one = NAMESPACES[name]
        switch: dict[str, Any] = (
            {"action": "store_true"} if isinstance(one.default, bool) else {"metavar": one.name.upper()}
        )
        render.add_argument(f"--{name}", default=one.default, help=one.doc, **switch)
    render.add_argument("--json", action="store_true", help="print what became of every tag as JSON")

    test = commands.add_parser("test", help="run every test; further options go to pytest", allow_abbrev=False)
    test.add_argument("--webui", type=Path, action="append", default=[], help="also test in the webui of this folder")
    test.add_argument("--webui-python", type=Path, help="the webuis' Python (default: the one of their own venv)")
    test.add_argument("--webui-args", default="", help='further options of the webuis, as --webui-args="--one --two"')

    inspect = commands.add_parser("inspect", help="say what a checkpoint is; reads its header only")
    inspect.add_argument("file", type=Path)
    inspect.add_argument("--json", action="store_true")

    bake = commands.add_parser("bake", help="write a merge of checkpoints to a file")
    bake.add_argument("recipe", help='such as "base.safetensors + neon.safetensors:GRAD_V:VAE=0"; names are paths')
    bake.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    bake.add_argument("--force", action="store_true", help="replace --out if it exists")
    bake.add_argument("--dtype", default="", help="fp16, bf16 or fp32 (default: the base's)")
    bake.add_argument("--json", action="store_true", help="print what was done as JSON")

    presets.add_arguments(
        commands.add_parser("cards", help="list the cards of models, show one, export and import"),
        commands.add_parser("presets", help="list presets and cards, show one, export and import"),
    )

    look = commands.add_parser("doctor", help="say what this machine or a webui lacks, and what that costs")
    doctor.add_arguments(look)

    bench = commands.add_parser("bench", help="measure speed against the floor and the peers' method")
    bench.add_argument(
        "what", nargs="?", choices=["cascade", "freeu", "merge", "namespaces", "studio"], default="freeu"
    )
    bench.add_argument("--json", action="store_true")
    bench.add_argument(
        "--full", action="store_true", help="merge: models of SD 1.5's own size, 12 GB of memory and disk"
    )
    bench.add_argument("--webui", type=Path, help="namespaces: also measure the prompt parser of the webui there")
    bench.add_argument("--webui-python", type=Path, help="that webui's Python (default: the one of its own venv)")
    return top


def options_of(command: str) -> list[str]:
    """The option strings of one command."""
    choices = next(action.choices for action in parser()._actions if isinstance(action.choices, dict))
    return [flag for action in choices[command]._actions for flag in action.option_strings]


def _text(text: str) -> str:
    """A text without the blank before its minus; see MINUS."""
    return text[1:] if MINUS.match(text, 1) else text


# name, type, default, help of the picture's own settings; the names are those of the API
GENERATE: tuple[tuple[str, Any, Any, str], ...] = (
    ("negative-prompt", _text, "", "what the picture must not show"),
    ("sampler-name", str, "DPM++ 2M", "sampler"),
    ("scheduler", str, "Automatic", "noise schedule"),
    ("steps", int, 20, "sampling steps"),
    ("cfg-scale", float, None, "how strictly the prompt is followed (default: the webui's)"),
    ("width", int, None, "pixels, a multiple of 8 (default: what the model was trained at)"),
    ("height", int, None, "pixels, a multiple of 8"),
    ("seed", int, -1, "-1 draws one"),
    ("batch-size", int, 1, "pictures at once"),
    ("n-iter", int, 1, "batches one after the other"),
    (
        "denoising-strength",
        float,
        None,
        "share that --init-image or --hr-scale draws anew, 0 to 1",
    ),
    ("hr-scale", float, None, "draw a second pass, this many times as large"),
    ("hr-upscaler", str, None, "how the first pass is enlarged (default: Latent)"),
    ("hr-second-pass-steps", int, None, "sampling steps of the second pass (default: as many as the first)"),
    ("resize-mode", int, None, "how --init-image is made to fit: 0 stretch, 1 crop, 2 fill, 3 stretch latents"),
    ("mask-blur", int, None, "pixels over which the edge of --mask is soft"),
)

DEFAULTS = {flag.replace("-", "_"): default for flag, _, default, _ in GENERATE if default is not None}


RENDER = ("dialect", "strength", "window", "anti", "isolate", "order", "replace", "sets")  # settings of NAMESPACES


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--ckpt", type=Path, help="a checkpoint (.safetensors) or a diffusers folder")
    command.add_argument("--data-dir", type=Path, help="where models, outputs and settings are kept")
    command.add_argument("--lora-dir", type=Path, help="where LoRAs lie (default: models/Lora in the data folder)")


def _studio(args: argparse.Namespace, rest: Sequence[str]) -> int:
    from . import server

    return server.start(
        port=args.port,
        listen=args.listen,
        data_dir=args.data_dir,
        checkpoint=args.ckpt,
        lora_dir=args.lora_dir,
        api_auth=args.api_auth,
        open_browser=not args.no_browser,
    )


def request_of(args: argparse.Namespace) -> dict[str, Any]:
    """What a command line asks for as an API request; panel options are checked here, before anything is loaded."""
    given = vars(args)
    live.refresh(presets.store(args.data_dir))
    names = [flag.replace("-", "_") for flag, *_ in GENERATE]
    request = {name: given[name] for name in names if given[name] is not None} | {"prompt": args.prompt}
    request |= _pictures(args)
    if args.hr_scale is not None:
        request["enable_hr"] = True
    scripts = {}
    for panel in PANELS:
        options = {one: given[f"{panel.name}.{one}"] for one in panel.names}
        options = {name: value for name, value in options.items() if value is not None}
        if options:
            scripts[panel.title] = {"args": [panel.read(options)]}
    return request | {"alwayson_scripts": scripts}


def _pictures(args: argparse.Namespace) -> dict[str, Any]:
    """The pictures to start from, in base64 as the API takes them."""
    if args.init_image is None:
        if args.mask is not None:
            raise PrismError("--mask says which part of a picture is drawn anew; name the picture with --init-image")
        return {}
    if args.hr_scale is not None:
        raise PrismError("--hr-scale is for pictures without --init-image; set --width and --height instead")
    mask = {} if args.mask is None else {"mask": _base64("--mask", args.mask)}
    return {"init_images": [_base64("--init-image", args.init_image)], **mask}


def _base64(option: str, file: Path) -> str:
    try:
        return base64.b64encode(file.read_bytes()).decode()
    except OSError as error:
        raise PrismError(f"{option} {file} cannot be read: {error.strerror}") from error


def _generate(args: argparse.Namespace, rest: Sequence[str]) -> int:
    request = request_of(args)
    _check_out(args.out)
    from .generate import generate

    folders = {"data_dir": args.data_dir, "lora_dir": args.lora_dir}
    result = generate(request, checkpoint=args.ckpt, card=args.card, defaults=DEFAULTS, **folders)
    files = []
    for index, png in enumerate(result.images):
        file = args.out if index == 0 else args.out.with_stem(f"{args.out.stem}-{index + 1}")
        file.write_bytes(png)
        files.append(str(file))
    if args.json:
        print(json.dumps({"files": files, **result.info}, ensure_ascii=False, indent=2))
    else:
        print("\n".join(files))
    return 0


def _render(args: argparse.Namespace, rest: Sequence[str]) -> int:
    from ..namespaces import json_form
    from ..namespaces.render import render_pair
    from ..settings.namespaces import options

    if args.registry is not None and not args.registry.is_file():
        raise PrismError(f"--registry {args.registry} is no file; name a JSON file of namespaces")
    values = NAMESPACES.read({name: getattr(args, name) for name in RENDER})
    wanted = options(values, args.target, [args.registry] if args.registry else [])
    found = render_pair(args.prompt, args.negative, wanted)
    if args.json:
        print(json.dumps(json_form.rendered(found, wanted), ensure_ascii=False, indent=2))
        return 0
    print(found.prompt)
    if found.negative:
        print(found.negative)
    for side, lint in json_form.lints(found, wanted):
        print(f"prism: {side} {lint.start} to {lint.end}: {lint.message}", file=sys.stderr)
    return 0


def _check_out(file: Path) -> None:
    """Whether the picture can be kept, before it is drawn."""
    if file.suffix.lower() != ".png" or file.is_dir():
        raise PrismError(f'--out is "{file}"; it must be the name of a PNG file, such as {file.with_suffix(".png")}')
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = not file.exists()
        file.open("ab").close()
        if new:
            file.unlink()
    except OSError as error:
        raise PrismError(f"{file} could not be written: {error.strerror}; choose another --out") from error


def webuis_of(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The webuis to test in; a folder or a Python that is not there is told before anything runs."""
    return [
        {
            "path": str(folder.resolve()),
            "python": str(_webui_python(folder.resolve(), args.webui_python)),
            "args": shlex.split(args.webui_args),
        }
        for folder in args.webui
    ]


def _webui_python(folder: Path, given: Path | None) -> Path:
    if not (folder / "launch.py").is_file():
        raise PrismError(f"{folder} is no webui: it has no launch.py; give its folder with --webui")
    python = given or folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.is_file():
        raise PrismError(f"There is no Python at {python}; give the one that runs the webui with --webui-python")
    return python.absolute()  # not resolved: that would leave the environment


def _test(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Lint, types, then pytest; where this system has no browser, Playwright's own is fetched if it can be."""
    env = dict(os.environ, GRADIO_ANALYTICS_ENABLED="False")
    if args.webui:
        env[WEBUIS] = json.dumps(webuis_of(args))
    if not any(shutil.which(name) for name in BROWSERS):
        subprocess.call([sys.executable, "-m", "playwright", "install", "chromium"])
    checks = [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]]
    failed = [" ".join(check) for check in checks if subprocess.call([sys.executable, "-m", *check], cwd=ROOT)]
    # File by file over the cores, a thread for each; a given webui is started once, and so is its pytest.
    env.setdefault("OMP_NUM_THREADS", "1")
    workers = [] if args.webui else ["-n", str(min(os.cpu_count() or 1, MAX_WORKERS)), "--dist", "loadfile"]
    status = subprocess.call([sys.executable, "-m", "pytest", *workers, *rest], cwd=ROOT, env=env)
    if failed:
        print(f"failed beside the tests: {', '.join(failed)}", file=sys.stderr)
    return status or bool(failed)


def _inspect(args: argparse.Namespace, rest: Sequence[str]) -> int:
    from .header import inspect

    header = inspect(args.file)
    facts = _cascade(args.file) if header.family == "cascade" else _checkpoint(header)
    facts["card"] = _card_of(header)
    words = {key: _listed(value) if isinstance(value, list) else value for key, value in facts.items()}
    print(json.dumps(facts, indent=2) if args.json else "\n".join(f"{key}: {text}" for key, text in words.items()))
    return 0


def _listed(words: Sequence[str]) -> str:
    return ("; " if any("," in one for one in words) else ", ").join(words)


def _cascade(file: Path) -> dict[str, Any]:
    from ..cascade.report import report

    return report(file)


def _card_of(header: Header) -> str:
    """The built-in card of a file, and why it is that; its hash is not looked at, since the whole file makes it."""
    from ..cards import match, shipped
    from ..cards.card import cards_of

    loaded = match.Loaded(header.path.name, metadata=header.metadata, family=header.family)
    found = match.match(loaded, cards_of(shipped.presets("card")))
    return f"{found[0].card.name}: {found[0].why}" if found else ""


def _checkpoint(header: Header) -> dict[str, Any]:
    return {
        "file": str(header.path),
        "family": header.family,
        "parts": list(header.parts),
        "dtype": header.dtype,
        "prediction": header.prediction_type,
        "size": header.native_size,
        "tensors": len(header.shapes),
        "notes": list(header.notes),
        **_merge_of(header.metadata),
    }


def _merge_of(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What a baked file says that it was made of, in whichever tool."""
    told: dict[str, Any] = {}
    for key, name in (("merge", "sd_merge_recipe"), ("merged", "sd_merge_models")):
        try:
            found = json.loads(metadata.get(name, ""))
        except ValueError:
            continue
        if isinstance(found, dict) and name == "sd_merge_recipe":
            told[key] = str(found.get("text") or found.get("type") or metadata[name])
        elif isinstance(found, dict):
            told[key] = [str(one.get("name", sha)) for sha, one in found.items() if isinstance(one, dict)]
    return told


FINER = (
    "a webui that holds the model in a wider format (--no-half) merges in that; --dtype fp32 writes its very picture"
)


def _bake(args: argparse.Namespace, rest: Sequence[str]) -> int:
    from ..merge import Recipe
    from ..merge.baking import prepared

    if args.out.exists() and not args.force:
        raise PrismError(f"{args.out} exists already; choose another --out, or replace it with --force")
    recipe, shown = Recipe.parse(args.recipe), -1

    def tell(done: int, total: int) -> None:
        nonlocal shown
        if done * 100 // total > shown:
            shown = done * 100 // total
            print(f"\r{shown} %", end="\n" if done == total else "", file=sys.stderr, flush=True)

    baked = prepared(recipe, args.out, dtype=args.dtype)
    file = baked.write(progress=tell if sys.stderr.isatty() else None)
    notes = [*baked.notes, FINER] if baked.formats != "fp32" and not args.dtype else [*baked.notes]
    told = {"file": str(file), "recipe": str(recipe), "bytes": file.stat().st_size, "dtype": baked.formats}
    print(json.dumps({**told, "notes": notes}, ensure_ascii=False, indent=2) if args.json else file)
    if not args.json:
        print("\n".join((f"format: {baked.formats}", *notes)), file=sys.stderr)
    return 0


def _doctor(args: argparse.Namespace, rest: Sequence[str]) -> int:
    return doctor.tell(args)


def _cards(args: argparse.Namespace, rest: Sequence[str]) -> int:
    args.feature = CARD
    return presets.tell(args)


def _presets(args: argparse.Namespace, rest: Sequence[str]) -> int:
    return presets.tell(args)


def _bench(args: argparse.Namespace, rest: Sequence[str]) -> int:
    from importlib import import_module

    bench = import_module(f"sd_prism.bench.{args.what}")
    options: dict[str, object] = {}
    if args.full:
        if args.what != "merge":
            raise PrismError("--full is for bench merge; the other benchmarks have one size")
        options["full"] = True
    if args.webui:
        if args.what != "namespaces":
            raise PrismError("--webui is for bench namespaces; no other benchmark looks at a webui")
        folder = args.webui.resolve()
        options |= {"webui": folder, "python": _webui_python(folder, args.webui_python)}
    found = bench.run(**options)
    print(json.dumps(found, indent=2) if args.json else bench.table(found["rows"]))
    return 0


COMMANDS = {
    "studio": _studio,
    "generate": _generate,
    "render": _render,
    "test": _test,
    "inspect": _inspect,
    "bake": _bake,
    "cards": _cards,
    "presets": _presets,
    "doctor": _doctor,
    "bench": _bench,
}
