"""Prism without a webui: `python prism.py` opens the studio, `python prism.py test` runs every test.

The first start makes `.venv` beside this file and installs the pinned packages of pyproject.toml into it; later
starts find it ready. This file uses the standard library alone, and nothing newer than Python 3.6 until it has
checked the version.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
READY = VENV / "prism-ready.json"
VERSIONS = ((3, 10), (3, 12))
NEEDED_GB = 3


def main():
    check_python()
    if sys.argv[1:2] == ["doctor"]:  # looks at a broken environment too, so it must not need one
        sys.path[0] = str(ROOT / "lib")
        from sd_prism.doctor import main as doctor

        return doctor(sys.argv[2:])
    if Path(sys.prefix).resolve() != VENV.resolve():
        run_inside(sys.argv[1:])
    sys.path[0] = str(ROOT / "lib")
    from sd_prism.studio.cli import main as command

    return command(sys.argv[1:])


def check_python():
    low, high = VERSIONS
    if not low <= sys.version_info[:2] <= high:
        stop(
            f"Prism needs Python 3.{low[1]} to 3.{high[1]}; this is {sys.version.split()[0]} ({sys.executable}). "
            "Install one of those and run it with that Python, for example: python3.11 prism.py"
        )


def run_inside(args):
    """Goes on in the environment's own Python, set up first if need be."""
    extras = ["test"] if args[:1] == ["test"] else []
    set_up(extras)
    command = [str(venv_python()), str(ROOT / "prism.py"), *args]
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(command[0], command)
    try:
        sys.exit(subprocess.call(command))
    except KeyboardInterrupt:  # the child got it too and ends by itself
        sys.exit(130)


def venv_python():
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def set_up(extras):
    """Makes `.venv` and installs what it lacks; a finished set-up costs one file read."""
    wanted = {name: pins(name) for name in ["", *extras]}
    done = read_ready()
    missing = [name for name in wanted if done.get(name) != digest(wanted[name])]
    if venv_python().exists() and not missing:
        return
    free = shutil.disk_usage(ROOT).free / 1e9
    if "" in missing and free < NEEDED_GB:
        stop(f"Prism needs about {NEEDED_GB} GB for its packages; {ROOT} has {free:.1f} GB free.")
    print(f"Setting up Prism in {VENV}. This happens once.")
    if not venv_python().exists() or not has_pip():
        if find_spec("venv") is None or find_spec("ensurepip") is None:
            stop("This Python cannot make environments; on Debian or Ubuntu install the package python3-venv.")
        step("making the environment", [sys.executable, "-m", "venv", "--clear", str(VENV)])
        done = {}
        missing = list(wanted)
    for name in missing:
        lists = [wanted[name]]
        if not name:  # torch first: it is the largest, and every other package is content with the one that is there
            torch = [pin for pin in wanted[name] if pin.startswith("torch==")]
            lists = [torch, wanted[name]]
        for packages in lists:
            step("installing " + summary(packages), [str(venv_python()), "-m", "pip", "install", *packages])
        done[name] = digest(wanted[name])
        READY.write_text(json.dumps(done), encoding="utf-8")


def has_pip():
    """Whether the environment was finished: an interrupted one has a Python, but no pip."""
    return subprocess.call([str(venv_python()), "-c", "import pip"], stderr=subprocess.DEVNULL) == 0


def pins(extra):
    """A list of pinned requirements from pyproject.toml (tomllib is not in Python 3.10)."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r"^%s = \[\n(.*?)^\]" % (extra or "dependencies"), text, re.M | re.S)
    return re.findall(r'^\s*"(.+)",$', found.group(1), re.M)


def digest(packages):
    """What a finished set-up is good for: these packages, this Python."""
    return hashlib.sha256(repr((packages, sys.version_info[:2])).encode()).hexdigest()


def read_ready():
    try:
        return json.loads(READY.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def summary(packages):
    names = [re.split(r"[=;<> ]", package)[0] for package in packages]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def step(text, command):
    """Runs one step of the set-up with its own output shown, and turns its failure into words."""
    print("-> " + text, flush=True)
    env = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    process = subprocess.Popen(command, stdout=sys.stdout, stderr=subprocess.PIPE, env=env)
    tail = []
    for line in process.stderr:
        line = line.decode(errors="replace").rstrip()
        tail = [*tail[-40:], line]
        if not line.startswith("WARNING"):
            print(line, file=sys.stderr)
    if process.wait():
        stop(reason("\n".join(tail)) + " Nothing is lost: run the same command again to go on from here.")


def reason(errors):
    """What pip's errors mean for the person in front of it."""
    if "No space left" in errors or "Errno 28" in errors or shutil.disk_usage(ROOT).free < 50_000_000:
        return f"The disk is full: Prism needs about {NEEDED_GB} GB in {ROOT}."
    offline = (
        "connection broken",
        "Failed to establish",
        "Temporary failure",
        "NewConnectionError",
        "getaddrinfo",
        "Network is unreachable",
    )
    if any(sign in errors for sign in offline):
        return "The packages could not be fetched: this machine seems to be offline."
    return "The set-up stopped at the step above."


def stop(text):
    print(text, file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
