"""The rules of the house: which room may know which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "lib" / "sd_prism"
KERNELS = {"freeu", "namespaces", "merge", "cascade", "schedule"}
DOMAIN = {"settings", "infotext", "cards", "errors"}
KERNEL_LIBRARIES = {"torch", "numpy", "safetensors"}
BENCH = PACKAGE / "bench" / "studio.py"  # measures the studio from inside it
HOST_ONLY = {"modules", "backend", "ldm", "sgm", "ldm_patched", "modules_forge", "launch", "installer"}


def rooms():
    for file in PACKAGE.rglob("*.py"):
        inside = file.relative_to(PACKAGE).parts
        yield file, inside[0].removesuffix(".py")


def imports(file: Path):
    """Absolute module names that a file imports, wherever in it."""
    package = ("sd_prism", *file.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names if module == "sd_prism")


def test_kernels_know_no_webui_no_gradio_and_not_each_other():
    for file, room in rooms():
        if room not in KERNELS:
            continue
        for name in imports(file):
            top, _, rest = name.partition(".")
            if top == "sd_prism":
                assert not rest or rest.split(".")[0] in {room, "errors", "schedule", "header"}, (
                    f"{file.name} imports {name}"
                )
            else:
                assert top in KERNEL_LIBRARIES or top in sys.stdlib_module_names, f"{file.name} imports {name}"


def test_only_hosts_and_the_studio_know_a_webuis_modules():
    allowed = {"hosts", "studio"}
    for file, room in rooms():
        found = {name for name in imports(file) if name.split(".")[0] in HOST_ONLY}
        if file.name == "compat.py" and room == "panels":
            found -= {"modules.ui_components"}  # the hosts' InputAccordion, with a fallback beside it
        assert not found or room in allowed or file == BENCH, f"{file.relative_to(PACKAGE)} imports {found}"


def test_only_panels_and_the_studio_import_gradio():
    for file, room in rooms():
        if any(name.split(".")[0] == "gradio" for name in imports(file)):
            assert room in {"panels", "studio"} or file == BENCH, file.name


def test_nobody_imports_the_studio_but_itself_and_what_trains_looks_at_or_measures_it():
    for file, room in rooms():
        if any(name.startswith("sd_prism.studio") for name in imports(file)):
            assert room in {"studio", "miniatures", "doctor", "bench"}, file.name


def test_domain_rooms_import_neither_hosts_nor_panels():
    for file, room in rooms():
        if room in DOMAIN | {"panels"}:
            for name in imports(file):
                assert not name.startswith("sd_prism.hosts"), f"{file.name} imports {name}"


@pytest.mark.parametrize("folder", ["scripts", "lib", "tests"])
def test_no_folder_closes_a_shared_namespace(folder):
    assert not (ROOT / folder / "__init__.py").exists()


def test_nothing_at_the_top_shadows_a_host():
    taken = HOST_ONLY | {"webui", "utils", "k_diffusion", "spaces"}
    assert not {path.stem for path in ROOT.iterdir()} & taken


@pytest.mark.parametrize("file", sorted((ROOT / "scripts").glob("*.py")), ids=lambda file: file.name)
def test_a_script_file_is_thin_and_defines_one_script(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 1
    assert [ast.unparse(base) for base in classes[0].bases] == ["scripts.Script"]
    assert "from modules.scripts import" not in file.read_text(encoding="utf-8")


def test_importing_what_a_script_needs_loads_nothing_heavy():
    heavy = ["torch", "diffusers", "transformers", "matplotlib", "lark", "gradio", "numpy", "PIL"]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import sd_prism.settings, sd_prism.infotext;"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(ROOT / "lib")], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
