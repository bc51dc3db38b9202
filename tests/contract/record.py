"""Facts about a real webui, kept so that the studio is held to them where none is installed.

Written by `python -m contract.record PATH --python PYTHON` with `lib` and `tests` on the path, read by the tests.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from contract.hosts import webui
from contract.jobs import hook_log
from contract.source import STUDIO, Source

DATA = Path(__file__).resolve().parent / "data"
HOOKS = "a1111-1.10.1-hooks.json"
SOURCE = "a1111-1.10.1-source.json"


def load(name: str) -> Any:
    return json.loads((DATA / name).read_text(encoding="utf8"))


def save(name: str, content: Any) -> None:
    (DATA / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf8")


def record_source(path: Path) -> None:
    """Names, signatures and defaults of the modules that the studio has as well."""
    host, compared = Source(path), Source(STUDIO).files()
    save(
        SOURCE,
        {"version": host.version(), "files": host.files(), "compared": compared, "facts": host.facts(compared)},
    )


def record_hooks(path: Path, python: Path) -> None:
    """What an extension of a running webui sees."""
    with TemporaryDirectory() as folder:
        host = webui(Path(folder), "webui", str(path), str(python), [])
        try:
            host.start()
            save(HOOKS, {"version": Source(path).version(), "log": hook_log(host)})
        finally:
            host.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the folder of AUTOMATIC1111 v1.10.1")
    parser.add_argument("--python", type=Path, help="the webui's Python; without it only the source is recorded")
    args = parser.parse_args()
    record_source(args.path)
    if args.python:
        record_hooks(args.path, args.python)


if __name__ == "__main__":
    main()
