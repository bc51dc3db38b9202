"""Every text of ours that a page shows, as it stands there: what localizations/ has to say in each language.

Names stay as they are: of panels, presets, cards, dialects, samplers, schedules, blocks and number formats.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sd_prism.settings import AUTOMATIC, CUSTOM, PANELS, Field
from sd_prism.settings.cascade import AUTO
from sd_prism.settings.merge import FLAT

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lib" / "sd_prism"
DECLARING = [one for one in sorted((PACKAGE / "hosts").rglob("*.py")) if "add_option" in one.read_text(encoding="utf8")]
DRAWN = (*sorted((PACKAGE / "panels").glob("*.py")), *DECLARING)  # DECLARING: settings of the webui
SCRIPTS = sorted((ROOT / "javascript").glob("*.js"))
NAMED = ("preset", "card", "dialect", "sampler", "schedule", "dtype")  # fields whose choices are names, but for these:
STAND_INS = (CUSTOM, AUTOMATIC, AUTO, FLAT)
SAID = re.compile(r'\bprismSay\(\s*"((?:[^"\\]|\\.)*)"')
SILENT = re.compile(r"^(log\.|\w*Error\b)|\.info$")
SPOKEN = re.compile(r'"[A-Z][a-z]+ [^"]*"|`[A-Z][a-z]+ [^`]*`')  # a literal that reads like a text


def texts() -> set[str]:
    found = {*_of_settings(), *_of_python(), *_of_scripts()}
    return {text for text in found if re.search("[a-z]{2}", text)} - {"Prism", *(panel.title for panel in PANELS)}


def unspoken() -> list[str]:
    """Texts in scripts that are not said through `prismSay`; errors are not."""
    found = []
    for path in SCRIPTS:
        code = re.sub(r"^\s*//.*", "", path.read_text(encoding="utf8"), flags=re.M)
        for match in SPOKEN.finditer(code):
            if not re.search(r"(prismSay|Error)\(\s*$", code[: match.start()]):
                found.append(f"{path.name}: {match[0]}")
    return found


def _of_settings() -> Iterator[str]:
    for panel in PANELS:
        for one in panel.fields:
            yield from (one.label, one.doc, *_words(one))


def _words(one: Field) -> Iterator[str]:
    for choice in one.choices:
        if one.name not in NAMED or choice in STAND_INS:
            yield choice


def _of_scripts() -> Iterator[str]:
    for path in SCRIPTS:
        for text in SAID.findall(path.read_text(encoding="utf8")):
            yield text.replace('\\"', '"')


def _of_python() -> Iterator[str]:
    """Literals that begin with a capital, constants that are words, and what stands between the tags of HTML."""
    for path in DRAWN:
        tree = ast.parse(path.read_text(encoding="utf8"))
        silent = {id(one) for node in ast.walk(tree) for one in _silent(node)}
        for node in ast.walk(tree):
            if id(node) not in silent:
                yield from _literals(node)


def _silent(node: ast.AST) -> Iterator[ast.AST]:
    """Docstrings, pieces of texts with values in them, and what is no text by itself or none of the page."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield from node.values
    elif isinstance(node, ast.Assert) or (isinstance(node, ast.Call) and SILENT.search(ast.unparse(node.func))):
        yield from (one for child in ast.iter_child_nodes(node) for one in ast.walk(child))


def _literals(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "info":
        yield from (f"({ast.literal_eval(one)})" for one in node.args)  # as the webui shows it
    elif isinstance(node, ast.JoinedStr) and {one.id for one in ast.walk(node) if isinstance(one, ast.Name)} == {
        "panel"
    }:
        code = compile(ast.Expression(node), "", "eval")
        told = [eval(code, {"panel": panel}) for panel in PANELS if panel.presets]
        yield from (text for text in told if re.match("[A-Z]", text))
    elif isinstance(node, ast.JoinedStr):
        yield from re.findall(">([A-Z][^<>]*)<", ast.unparse(node))
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
        yield from re.findall(r"^[a-z]+ [a-z ]+$", str(node.value.value))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        pieces = re.split(r"<[^<>]*>", node.value)
        if len(pieces) > 1 or node.value == node.value.strip():  # else a piece of a text
            yield from (text.strip() for text in pieces if re.match("[A-Z]", text))
