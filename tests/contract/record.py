"""Facts about a real webui, kept so that the studio is held to them where none is installed.

Written by `python -m contract.record NAME PATH ...` in the folder tests (see `main`), read by the tests.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from contract.source import STUDIO, Source

DATA = Path(__file__).resolve().parent / "data"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the folder of AUTOMATIC1111 v1.10.1")
    record_source(parser.parse_args().path)


if __name__ == "__main__":
    main()
