"""What Prism takes from a webui, read from its own source by `ast`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contract.source import LIB, parsed, text_of

ROOT = LIB.parent
SCRIPT = "modules/scripts.py:Script"
# Names that carry one of the host's objects wherever Prism uses them.
OBJECTS = {"p": "modules/processing.py:StableDiffusionProcessing", "script": SCRIPT, "grid": "scripts/xyz_grid.py"}
OWN = "_prism"  # what Prism itself puts on the host's objects


@dataclass(frozen=True, order=True)
class Use:
    """One name of the host, as in `source`, and where it is used; `optional` if Prism does without it as well."""

    name: str
    place: str
    optional: bool = False


def prism_files() -> list[Path]:
    inner = LIB / "sd_prism"
    return sorted([*ROOT.glob("scripts/*.py"), *inner.glob("hosts/*.py"), *inner.glob("panels/*.py")])


def uses() -> list[Use]:
    return sorted({use for file in prism_files() for use in used_by(file)})


def used_by(file: Path) -> Iterator[Use]:
    """Imported names, attributes of imported modules and of the host's objects, and hooks that are overridden."""
    tree = parsed(file)
    place = file.relative_to(ROOT).as_posix()
    optional = {inner for node in ast.walk(tree) if tolerant(node) for inner in ast.walk(node)}
    known = dict(OBJECTS)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "modules":
            for one in node.names:
                if node.module == "modules":
                    known[one.asname or one.name] = f"modules/{one.name}.py" + ("?" if node in optional else "")
                else:
                    yield Use(f"{str(node.module).replace('.', '/')}.py:{one.name}", place, node in optional)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            owner = known[node.value.id]
            if not node.attr.startswith(OWN):
                yield Use(joined(owner.rstrip("?"), node.attr), place, owner.endswith("?"))
        elif isinstance(node, ast.ClassDef) and "scripts.Script" in map(text_of, node.bases):
            hooks = [one.name for one in node.body if isinstance(one, ast.FunctionDef) and not one.name.startswith("_")]
            yield from (Use(f"{SCRIPT}.{hook}", place) for hook in hooks)


def joined(owner: str, name: str) -> str:
    return f"{owner}{'.' if ':' in owner else ':'}{name}"


def tolerant(node: ast.AST) -> bool:
    """Whether a failing import in it is provided for."""
    return isinstance(node, ast.Try) and any("ImportError" in text_of(one.type) for one in node.handlers)
