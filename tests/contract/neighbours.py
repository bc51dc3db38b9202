"""Extensions that behave as badly as extensions do, written into a data folder."""

from __future__ import annotations

from pathlib import Path

from sd_prism.settings import FREEU

HEAD = """
import gradio as gr
from modules import processing, script_callbacks, scripts, shared

HOOKS = [
    name
    for name, value in vars(scripts.Script).items()
    if callable(value) and not name.startswith("_") and name not in (
        "title", "ui", "show", "run", "elem_id", "describe", "on_before_component", "on_after_component",
        "before_component", "after_component",
    )
]


class Neighbour(scripts.Script):
    def title(self):
        return TITLE

    def show(self, is_img2img):
        return scripts.AlwaysVisible


def in_every_hook(function):
    for name in HOOKS:
        setattr(Neighbour, name, lambda self, p, *args, **kwargs: function(p))
"""

PACKAGES = """
import lib, settings
from lib import sd_prism
assert lib.owner == sd_prism.owner == settings.owner == "packages"
"""

TWIN = f"""
def ui(self, is_img2img):
    tab = "img2img" if is_img2img else "txt2img"
    return [
        gr.Textbox("", label=label, elem_id=f"script_{{tab}}_prism_freeu_{{name}}")
        for name, label in {[(field.name, field.label) for field in FREEU.fields]!r}
    ]

Neighbour.ui = ui
"""

CAT = """
import torch

if not hasattr(torch.cat, "neighbour"):
    original = torch.cat

    def cat(*args, **kwargs):
        return original(*args, **kwargs)

    cat.neighbour = True
    torch.cat = torch.concat = cat
"""

NESTED = """
from contextlib import closing

def postprocess(self, p, processed, *args):
    if hasattr(p, "of_the_neighbour"):
        return
    with closing(processing.StableDiffusionProcessingTxt2Img(
        prompt=p.prompt, steps=2, width=64, height=64, sampler_name="Euler", seed=3,
        do_not_save_samples=True, do_not_save_grid=True,
    )) as inner:
        inner.of_the_neighbour = inner.is_api = True
        inner.scripts, inner.script_args = p.scripts, p.script_args
        processing.process_images(inner)

Neighbour.postprocess = postprocess
"""

# Left out is what no host can copy: the model, the sampler that holds it, and the scripts with their page.
COPIES = """
import copy, json

WHOLE = ("sampler", "scripts_value", "scripts", "sd_model")

def copied(p):
    copy.copy(p)
    fields = {name: value for name, value in vars(p).items() if name not in WHOLE}
    assert json.dumps(copy.deepcopy(fields), default=str) == json.dumps(fields, default=str)
    for name, value in fields.items():
        if name.startswith("_prism"):
            json.dumps(value)
    json.dumps(copy.deepcopy(list(p.script_args)))
    print("copied", flush=True)

in_every_hook(copied)
"""

SURROUNDINGS = """
import os, sys
from pathlib import Path

sys.path[:0] = [str(Path(scripts.basedir()) / "lib"), "/nowhere"]
os.environ.update(PRISM_DATA_DIR="/nowhere", PYTHONPATH="/nowhere")
"""

# Not in ui(): that alone ends A1111.
RAISES = """
def failing(*args, **kwargs):
    raise RuntimeError("a neighbour's defect")

in_every_hook(failing)
for name in vars(script_callbacks).copy():
    if name.startswith("on_") and "component" not in name:
        getattr(script_callbacks, name)(failing)
"""

ARGUMENTS = """
def changed(p):
    p.script_args = [*p.script_args, "a neighbour's"]

in_every_hook(changed)
"""

SCRIPTS = {
    "packages": PACKAGES,
    "twin": TWIN,
    "cat": CAT,
    "nested": NESTED,
    "copies": COPIES,
    "surroundings": SURROUNDINGS,
    "raises": RAISES,
    "arguments": ARGUMENTS,
}
FILES = {
    "packages/lib/__init__.py": "owner = 'packages'\n",
    "packages/lib/sd_prism.py": "owner = 'packages'\n",
    "packages/scripts/__init__.py": "",
    "packages/settings.py": "owner = 'packages'\n",
    "packages/errors.py": "raise ImportError('taken for another one')\n",
    "surroundings/lib/freeu.py": "raise ImportError('taken for another one')\n",
    "surroundings/lib/infotext.py": "raise ImportError('taken for another one')\n",
    "twin/javascript/globals.js": "var prism = 1, Prism = 2, prismFreeU = 3;\n",
    "twin/javascript/broken.js": "function {\n",
    "twin/style.css": ".prism { gap: 3px }\n",
}


def move_in(extensions: Path) -> None:
    """All of them; by name some are loaded before Prism and some after."""
    for name, source in SCRIPTS.items():
        for place in (f"0-{name}", f"z-{name}") if name in ("cat", "raises") else (f"0-{name}",):
            write(extensions / place / "scripts" / f"{name}_neighbour.py", f"TITLE = {place!r}\n{HEAD}\n{source}")
    for file, source in FILES.items():
        write(extensions / f"0-{file}", source)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf8")
