"""What the source of a webui says about its interface, read by `ast`: nothing is imported or run.

The facts are names and short texts, by kind: `names` and `signatures` of `modules`, `patterns` (the regular expressions
of infotext and prompt tags), `requests`, `answers` and `routes` of HTTP, `options` with their defaults, `pasted` (the
infotext key of an option), and element `ids`, where `*` stands for what is not constant.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from sd_prism.doctor.webui import version_of

LIB = Path(__file__).resolve().parents[2] / "lib"
STUDIO = LIB / "sd_prism" / "studio" / "webui"
Facts = dict[str, dict[str, str]]
Definition = ast.FunctionDef | ast.ClassDef | None
PATTERNS_OF = ("modules/infotext_utils.py", "modules/extra_networks.py")
REQUESTS = {
    "StableDiffusionTxt2ImgProcessingAPI": "txt2img",
    "Txt2ImgRequest": "txt2img",
    "StableDiffusionImg2ImgProcessingAPI": "img2img",
    "Img2ImgRequest": "img2img",
}
ROUTER = "APIRouter"
VERBS = ("get", "post", "put", "delete")
LEAST_ID = 4  # constant characters; an id that is all variable says nothing


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf8"))


def text_of(node: ast.expr | None) -> str:
    return "" if node is None else ast.unparse(node)


def called(node: ast.AST | None) -> str:
    """The last part of the name that is called; of a chain such as `OptionInfo(...).info(...)`, the first one."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call):
        node = node.func.value
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def innermost(node: ast.Call) -> ast.Call:
    """`OptionInfo(...)` of `OptionInfo(...).info(...).needs_reload_ui()`."""
    while isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call):
        node = node.func.value
    return node


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((one.value for one in call.keywords if one.arg == name), None)


def constant(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def calls(file: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(parsed(file)) if isinstance(node, ast.Call))


def parameters(args: ast.arguments, *, method: bool) -> str:
    """Names, kinds and defaults, without annotations and without `self`."""
    bare = ast.parse(f"def f({ast.unparse(args)}): pass").body[0].args  # type: ignore[attr-defined]
    for one in [*bare.posonlyargs, *bare.args, *bare.kwonlyargs, bare.vararg, bare.kwarg]:
        if one is not None:
            one.annotation = None
    shown = ast.unparse(bare)
    return f"({shown.removeprefix('self').removeprefix(', ') if method else shown})"


@dataclass
class Source:
    """A webui's folder; `root` holds `modules` and `scripts`."""

    root: Path

    def files(self) -> list[str]:
        found = [*self.root.glob("modules/*.py"), *self.root.glob("modules/api/*.py"), *self.root.glob("scripts/*.py")]
        return sorted(file.relative_to(self.root).as_posix() for file in found)

    def module(self, dotted: str | None) -> Path | None:
        """The file of an imported module that belongs to the webui; the studio's engine lies beside its folder."""
        name = str(dotted)
        base = self.root if name.startswith("modules.") else LIB if name.startswith("sd_prism.studio.") else None
        file = base / f"{name.replace('.', '/')}.py" if base else None
        return file if file and file.is_file() else None

    # --- names and signatures

    def defined(self, file: Path) -> dict[str, tuple[Path, Definition]]:
        """Every public name of a module with its definition, names from the webui's other modules included."""
        found: dict[str, tuple[Path, Definition]] = {}
        for node in statements(parsed(file).body):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found[node.name] = (file, node)
                if isinstance(node, ast.ClassDef) and any("Module" in text_of(base) for base in node.bases):
                    found |= dict.fromkeys(attributes(node), (file, None))  # a module with properties
            elif isinstance(node, ast.ImportFrom):
                found |= self.imported(node, file)
            else:
                found |= dict.fromkeys(targets(node), (file, None))
        return {name: place for name, place in found.items() if not name.startswith("_")}

    def imported(self, node: ast.ImportFrom, file: Path) -> dict[str, tuple[Path, Definition]]:
        origin = self.module(node.module)
        if origin is None or origin == file:
            return {}
        there = own_definitions(origin)
        return {one.asname or one.name: (origin, there.get(one.name)) for one in node.names}

    def interface(self, name: str) -> Iterator[tuple[str, str | None]]:
        """(name, signature or None) of everything public in a file, members of its classes included."""
        file = self.root / name
        for public, (place, node) in self.defined(file).items():
            if isinstance(node, ast.FunctionDef):
                yield public, parameters(node.args, method=False)
            elif isinstance(node, ast.ClassDef):
                yield public, self.constructor(node, place)
                for member in attributes(node) | assigned_later(public, place):
                    yield f"{public}.{member}", None
                for method in methods(node):
                    yield f"{public}.{method.name}", parameters(method.args, method=True)
            else:
                yield public, None

    def lineage(self, node: ast.ClassDef, file: Path) -> list[ast.ClassDef]:
        """The class after the bases that the webui itself defines."""
        known = self.defined(file)
        found: list[ast.ClassDef] = []
        for base in node.bases:
            place, parent = known.get(text_of(base), (file, None))
            if isinstance(parent, ast.ClassDef):
                found += self.lineage(parent, place)
        return [*found, node]

    def constructor(self, node: ast.ClassDef, file: Path) -> str | None:
        """What the class is called with; None where that is inherited from a foreign class."""
        init = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
        if init is not None:
            return parameters(init.args, method=True)
        if not any("dataclass" in text_of(one) for one in node.decorator_list):
            return None
        fields = dict(field for one in self.lineage(node, file) for field in dataclass_fields(one))
        return f"({', '.join(name + (f'={value}' if value else '') for name, value in fields.items())})"

    # --- HTTP

    @cached_property
    def models(self) -> Path:
        return self.root / "modules" / "api" / "models.py"

    def requests(self) -> Iterator[tuple[str, str]]:
        """`txt2img.steps` and its default, from a pydantic class or from the host's generator of one."""
        for name, kind in REQUESTS.items():
            for field, default in [*self.generated(name), *self.pydantic().get(name, {}).items()]:
                yield f"{kind}.{field}", default

    def generated(self, variable: str) -> Iterator[tuple[str, str]]:
        """Fields that the host derives from the constructor of a dataclass, then those that it adds."""
        names = {target: node.value for node in parsed(self.models).body for target in targets(node)}  # type: ignore
        if variable not in names:
            return
        call = innermost(names[variable])
        hidden = ast.literal_eval(names["API_NOT_ALLOWED"])
        place, node = self.defined(self.root / "modules/processing.py")[text_of(call.args[1])]
        for one in reversed(self.lineage(node, place)):  # of two defaults the host takes the base's
            yield from ((name, value) for name, value in dataclass_fields(one) if name not in hidden)
        for added in call.args[2].elts:
            pairs = {constant(key): text_of(value) for key, value in zip(added.keys, added.values, strict=True)}
            yield ast.literal_eval(pairs["key"]), pairs["default"]

    def pydantic(self) -> dict[str, dict[str, str]]:
        """Fields and defaults by class."""
        found: dict[str, dict[str, str]] = {}
        for node in parsed(self.models).body:
            if isinstance(node, ast.ClassDef):
                inherited = [found.get(text_of(base), {}) for base in node.bases]
                found[node.name] = dict(item for one in inherited for item in one.items()) | {
                    field.target.id: field_default(field.value)
                    for field in node.body
                    if isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and "ClassVar" not in text_of(field.annotation)
                }
        return found

    def answers(self) -> Iterator[tuple[str, str]]:
        jobs = [node for node in parsed(self.models).body if isinstance(node, ast.ClassDef) and node.name in REQUESTS]
        inner = {one.name for job in jobs for one in self.lineage(job, self.models)}
        for name, fields in self.pydantic().items():
            if name not in inner and not name.startswith("_"):
                yield from ((f"{name}.{field}", "") for field in fields)

    def routes(self) -> Iterator[tuple[str, str]]:
        """Verb and path; a router's have its prefix."""
        routers = [call for file in self.web_files() for call in calls(file) if called(call) == ROUTER]
        for file in self.web_files():
            for call in calls(file):
                path = constant(call.args[0]) if call.args else None
                verb = called(call)
                if path is None or not path.startswith("/"):
                    continue
                if text_of(call.func).startswith("router."):
                    path = f"{constant(keyword(routers[0], 'prefix'))}{path}"
                if verb == "add_api_route":
                    yield from ((f"{one} {path}", "") for one in ast.literal_eval(keyword(call, "methods") or call))
                elif verb in VERBS:
                    yield f"{verb.upper()} {path}", ""

    def web_files(self) -> list[Path]:
        """The files that may hold routes or parts of the page."""
        folder = STUDIO.parent if self.root == STUDIO else self.root / "modules"
        return sorted({*folder.rglob("*.py"), *self.root.glob("scripts/*.py")})

    # --- settings and page

    def options(self) -> Iterator[tuple[str, str, str | None]]:
        """(key, default, infotext key) of every declared setting."""
        for node in ast.walk(parsed(self.root / "modules/shared_options.py")):
            for key, value in zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else ():
                if key is not None and isinstance(value, ast.Call) and called(value) == "OptionInfo":
                    call = innermost(value)
                    default = call.args[0] if call.args else keyword(call, "default")
                    yield str(constant(key)), literal(default), constant(keyword(call, "infotext"))

    def ids(self) -> Iterator[str]:
        """Element ids of the page; those handed to a helper that builds a part of it count as well."""
        for file in self.web_files():
            for given in map(pattern_of, identifying(file)):
                if len(given.replace("*", "")) >= LEAST_ID and " " not in given:
                    yield given

    def patterns(self) -> Iterator[str]:
        for name in PATTERNS_OF:
            for node in ast.walk(parsed(self.root / name)):
                named = isinstance(node, ast.Assign) and any(one.startswith("re_") for one in targets(node))
                given = node.value if named else node.args[0] if called(node) == "compile" else None  # type: ignore
                if constant(given) is not None:
                    yield str(constant(given))

    def facts(self, files: Iterable[str]) -> Facts:
        """Everything above; names and signatures of these files only, where the webui has them."""
        here = [name for name in files if (self.root / name).is_file()]
        members = {f"{name}:{public}": shown for name in here for public, shown in self.interface(name)}
        options = list(self.options())
        return {
            "names": dict.fromkeys(sorted(name for name, shown in members.items() if shown is None), ""),
            "signatures": {name: shown for name, shown in sorted(members.items()) if shown is not None},
            "patterns": dict.fromkeys(self.patterns(), ""),
            "requests": dict(self.requests()),
            "answers": dict(self.answers()),
            "routes": dict(sorted(self.routes())),
            "options": {key: default for key, default, _ in options},
            "pasted": {key: infotext for key, _, infotext in options if infotext},
            "ids": dict.fromkeys(sorted(set(self.ids())), ""),
        }

    def version(self) -> str:
        return version_of(self.root)


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """A module's statements, also under `if` and `try`."""
    for node in body:
        yield node
        for part in ("body", "orelse", "handlers", "finalbody") if isinstance(node, (ast.If, ast.Try)) else ():
            for inner in getattr(node, part, []):
                yield from statements(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def own_definitions(file: Path) -> dict[str, Definition]:
    return {
        node.name: node for node in statements(parsed(file).body) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }


def targets(node: ast.AST) -> list[str]:
    """The plain names that a statement assigns."""
    given = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    flat = [part for one in given for part in (one.elts if isinstance(one, ast.Tuple) else [one])]
    return [one.id for one in flat if isinstance(one, ast.Name)]


def methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    """Public methods; a property has no signature."""
    return [
        one
        for one in node.body
        if isinstance(one, ast.FunctionDef) and not one.name.startswith("_") and not one.decorator_list
    ]


def attributes(node: ast.ClassDef) -> set[str]:
    """Public names of the class and of its objects."""
    found = {name for one in node.body for name in targets(one)}
    found |= {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
    for one in ast.walk(node):
        if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store) and text_of(one.value) == "self":
            found.add(one.attr)
    return {name for name in found if not name.startswith("_")}


def assigned_later(name: str, file: Path) -> set[str]:
    """What a module sets on a class after its definition, as in `Class.field = property(...)`."""
    assigned = [target for node in parsed(file).body if isinstance(node, ast.Assign) for target in node.targets]
    return {one.attr for one in assigned if isinstance(one, ast.Attribute) and text_of(one.value) == name}


def dataclass_fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """(name, default) of the fields that the constructor takes."""
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            call = one.value if called(one.value) == "field" else None
            if call is None:
                yield one.target.id, text_of(one.value)
            elif text_of(keyword(call, "init")) != "False":  # type: ignore[arg-type]
                yield one.target.id, text_of(keyword(call, "default"))  # type: ignore[arg-type]


def field_default(value: ast.expr | None) -> str:
    """The default of a pydantic field, written plainly or in `Field(...)`."""
    if isinstance(value, ast.Call) and called(value) == "Field":
        return text_of(keyword(value, "default") or (value.args[0] if value.args else None))
    return text_of(value)


def literal(node: ast.expr | None) -> str:
    """A constant as text, `computed` for all others."""
    try:
        return repr(None if node is None else ast.literal_eval(node))
    except ValueError:
        return "computed"


def identifying(file: Path) -> Iterator[ast.expr | None]:
    """What a file uses as an element's id."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Call):
            yield keyword(node, "elem_id")
            yield from node.args if called(node).startswith("create_") else ()
        elif isinstance(node, ast.Assign) and text_of(node.targets[0]).endswith(("elem_id", "accordion_id")):
            yield node.value
        elif isinstance(node, ast.Dict):
            yield from (value for key, value in zip(node.keys, node.values, strict=True) if constant(key) == "elem_id")


def pattern_of(node: ast.expr | None) -> str:
    """A text with `*` for its variable parts."""
    if isinstance(node, ast.JoinedStr):
        return "".join(constant(part) or "*" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return "".join(pattern_of(part) or "*" for part in (node.left, node.right))
    if called(node) in ("elem_id", "id") and node.args:  # type: ignore[union-attr]  # the tab, then this
        return f"*_{pattern_of(node.args[0])}"
    return constant(node) or ""
