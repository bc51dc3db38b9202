"""The studio's `modules` against the source of a real webui, when PRISM_WEBUI names its folder."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

OURS = Path(__file__).parents[2] / "lib" / "sd_prism" / "studio" / "webui"
HOST = os.environ.get("PRISM_WEBUI", "")
# What the studio has to have with the very same parameters; other files may be a part of the host's.
WHOLE = {
    "modules/scripts.py": {"reload_script_body_only", "ScriptRunner.reload_sources"},
    "modules/script_callbacks.py": {"report_exception", "enumerate_callbacks"},
    "modules/patches.py": set(),
}
PARTLY = [
    f"modules/{name}.py"
    for name in [
        "processing",
        "infotext_utils",
        "options",
        "extra_networks",
        "images",
        "errors",
        "sd_models",
        "prompt_parser",
        "sd_samplers",
        "sd_samplers_cfg_denoiser",
    ]
]


def signatures(path: Path) -> dict[str, list[str]]:
    """Parameter names of all functions and methods of a file."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf8")).body:
        members = [("", node)] if isinstance(node, ast.FunctionDef) else []
        if isinstance(node, ast.ClassDef):
            members = [(f"{node.name}.", member) for member in node.body if isinstance(member, ast.FunctionDef)]
        for prefix, member in members:
            a = member.args
            names = [x.arg for x in a.posonlyargs + a.args] + [f"*{x.arg}" for x in [a.vararg] if x]
            found[prefix + member.name] = names + [x.arg for x in a.kwonlyargs] + [f"**{x.arg}" for x in [a.kwarg] if x]
    return found


@pytest.mark.skipif(not HOST, reason="PRISM_WEBUI does not name the folder of a webui")
@pytest.mark.parametrize("name", [*WHOLE, *PARTLY])
def test_signatures_are_the_hosts(name):
    theirs, ours = signatures(Path(HOST) / name), signatures(OURS / name)
    assert {key: ours[key] for key in ours if key in theirs} == {key: theirs[key] for key in ours if key in theirs}
    if name in WHOLE:
        assert set(theirs) - set(ours) == WHOLE[name]


def test_all_hooks_and_callbacks_of_the_contract_exist():
    scripts, callbacks = signatures(OURS / "modules/scripts.py"), signatures(OURS / "modules/script_callbacks.py")
    hooks = (
        "title ui show run setup before_process process before_process_batch after_extra_networks_activate"
        " process_before_every_sampling process_batch postprocess_batch postprocess_batch_list on_mask_blend"
        " post_sample postprocess_image postprocess_maskoverlay postprocess_image_after_composite postprocess"
        " before_component after_component on_before_component on_after_component elem_id before_hr"
    )
    assert {f"Script.{hook}" for hook in hooks.split()} <= set(scripts)
    names = (
        "app_started before_reload model_loaded ui_tabs ui_train_tabs ui_settings before_image_saved image_saved"
        " extra_noise cfg_denoiser cfg_denoised cfg_after_cfg before_component after_component image_grid"
        " infotext_pasted script_unloaded before_ui list_optimizers list_unets before_token_counter"
    )
    assert all(callbacks[f"on_{name}"] == ["callback", "name"] for name in names.split())
