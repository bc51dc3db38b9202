"""The loader lines of a script file, next to hostile neighbours, in both styles of `sys.path`."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from sd_prism.hosts.undo import UndoStack

ROOT = Path(__file__).resolve().parents[2]


class Context:
    def __init__(self, name, log):
        self.name, self.log = name, log

    def __enter__(self):
        self.log.append(f"+{self.name}")
        return self

    def __exit__(self, *exc):
        self.log.append(f"-{self.name}")


def test_undo_closes_in_reverse_order():
    log, stack = [], UndoStack()
    stack.enter("a", Context("a", log))
    stack.enter("b", Context("b", log))
    stack.close_all()
    assert log == ["+a", "+b", "-b", "-a"]


def test_entering_a_name_again_closes_the_old_one_first():
    log, stack = [], UndoStack()
    stack.enter("a", Context("1", log))
    stack.enter("a", Context("2", log))
    assert log == ["+1", "-1", "+2"] and "a" in stack
    stack.close("a")
    stack.close("a")
    assert log == ["+1", "-1", "+2", "-2"] and "a" not in stack


def test_a_context_that_fails_to_close_does_not_keep_the_others_open():
    class Broken(Context):
        def __exit__(self, *exc):
            super().__exit__(*exc)
            raise RuntimeError(f"no {self.name}")

    log, stack = [], UndoStack()
    for name, kind in (("a", Context), ("b", Broken), ("c", Context)):
        stack.enter(name, kind(name, log))
    with pytest.raises(RuntimeError, match="no b"):
        stack.close_all()
    assert log[3:] == ["-c", "-b", "-a"] and not any(name in stack for name in "abc")


def test_a_context_that_fails_to_open_is_not_kept():
    class Broken(Context):
        def __enter__(self):
            raise RuntimeError("no")

    stack = UndoStack()
    with pytest.raises(RuntimeError):
        stack.enter("a", Broken("a", []))
    assert "a" not in stack


HOST = """
import importlib.util, sys, types
from pathlib import Path

modules = types.ModuleType("modules"); modules.__path__ = []
scripts = types.ModuleType("modules.scripts"); scripts.Script = type("Script", (), {}); scripts.AlwaysVisible = object()
scripts.scripts_data = []
callbacks = types.ModuleType("modules.script_callbacks"); unload = []

def registration(name):
    if not name.startswith("on_"):
        raise AttributeError(name)
    return lambda function: None

callbacks.__getattr__ = registration
callbacks.on_script_unloaded = unload.append
def other(name):
    # empty: nothing may be asked of the host before there is a job
    if name.startswith("__"):
        raise AttributeError(name)
    setattr(modules, name, types.ModuleType("modules." + name))
    return getattr(modules, name)

modules.__getattr__ = other
networks = types.ModuleType("modules.extra_networks"); networks.ExtraNetwork = object
wrapped = dict(scripts=scripts, script_callbacks=callbacks, extra_networks=networks)
for wanted in (  # ours goes around these at once
    "processing.process_images_inner",
    "sd_models_config.guess_model_config_from_state_dict",
    "sd_samplers_common.samples_to_images_tensor",
    "sd_vae.load_vae",
    "sd_vae.reload_vae_weights",
    "sd_vae_approx.model",
    "sd_vae_taesd.encoder_model",
):
    name, function = wanted.split(".")
    setattr(wrapped.setdefault(name, types.ModuleType("modules." + name)), function, print)
denoiser = wrapped["sd_samplers_cfg_denoiser"] = types.ModuleType("modules.sd_samplers_cfg_denoiser")
denoiser.CFGDenoiser = type("CFGDenoiser", (), dict(combine_denoised=print))
for name, module in wrapped.items():
    setattr(modules, name, module); sys.modules["modules." + name] = module
sys.modules["modules"] = modules

def load(extension, keep_path):
    before = list(sys.path)
    sys.path.insert(0, str(extension))
    loaded = []
    for file in sorted((extension / "scripts").glob("*.py")):
        if file.name == "__init__.py":
            continue
        spec = importlib.util.spec_from_file_location(file.name, file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded.append(module)
    if not keep_path:
        sys.path[:] = before
    return loaded
"""


# What Forge Neo no longer has, of what others offer.
GONE = """
for name in ("sd_hijack", "sd_hijack_clip", "sd_models_config"):
    wrapped.pop(name, None); vars(modules).pop(name, None); sys.modules.pop("modules." + name, None)
had = modules.__getattr__
def lacking(name):
    if name in ("sd_hijack", "sd_hijack_clip", "sd_models_config"):
        raise AttributeError(name)
    return had(name)
modules.__getattr__ = lacking
for name in ("load_vae", "reload_vae_weights"):
    delattr(modules.sd_vae, name)
modules.sd_models.forge_loader = print
sys.modules["huggingface_guess.model_list"] = types.ModuleType("huggingface_guess.model_list")
"""


def run_host(tmp_path, body):
    (tmp_path / "host.py").write_text(HOST)
    code = textwrap.dedent(body)
    run = subprocess.run(
        [sys.executable, "-c", f"exec(open({str(tmp_path / 'host.py')!r}).read())\n{code}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def hostile(tmp_path):
    """A neighbour that closes `lib` and `scripts` for everybody else."""
    neighbour = tmp_path / "a-neighbour"
    for folder in ("lib", "scripts"):
        (neighbour / folder).mkdir(parents=True)
        (neighbour / folder / "__init__.py").write_text("")
    (neighbour / "scripts" / "main.py").write_text("import lib, scripts\n")
    return neighbour


@pytest.mark.parametrize("keep_path", [False, True], ids=["a1111", "forge"])
@pytest.mark.parametrize("first", [True, False], ids=["neighbour-first", "prism-first"])
def test_scripts_load_beside_a_neighbour_that_owns_lib_and_scripts(tmp_path, keep_path, first):
    order = [hostile(tmp_path), ROOT]
    out = run_host(
        tmp_path,
        f"""
        before = list(sys.path)
        for folder in {[str(path) for path in (order if first else order[::-1])]!r}:
            load(Path(folder), {keep_path})
        import sd_prism.freeu.value                     # a late import, long after loading
        print(sd_prism.__file__, [p for p in sys.path if p not in before and "a-neighbour" not in p])
        """,
    )
    assert str(ROOT / "lib" / "sd_prism") in out
    assert out.strip().endswith("[]" if not keep_path else f"['{ROOT}']")


def test_one_script_class_per_file_and_unloading_forgets_the_package(tmp_path):
    out = run_host(
        tmp_path,
        f"""
        for _ in range(3):
            for module in load(Path({str(ROOT)!r}), False):
                found = [n for n, c in vars(module).items() if isinstance(c, type) and issubclass(c, scripts.Script)]
                print(len(found), end=" ")
            for callback in unload:
                callback()
            unload.clear()
            print([name for name in sys.modules if name.startswith("sd_prism")])
        """,
    )
    assert out.split("\n")[:3] == [" ".join(["1"] * len(list((ROOT / "scripts").glob("*.py")))) + " []"] * 3


def test_a_host_that_has_less_gets_all_scripts_and_a_line_in_place_of_cascade(tmp_path):
    out = run_host(
        tmp_path,
        f"""
        exec({GONE!r})
        print(len(load(Path({str(ROOT)!r}), False)))
        from sd_prism.hosts.cascade.choice import panel
        from sd_prism.panels.cascade import ABSENT
        import gradio as gr
        with gr.Blocks() as page:
            print(panel.ui(types.SimpleNamespace(elem_id=str)), any(ABSENT in str(one["props"].get("value"))
                for one in page.get_config_file()["components"]))
        """,
    )
    assert out.split("\n")[:2] == [str(len(list((ROOT / "scripts").glob("*.py")))), "[] True"]


def test_a_second_copy_of_prism_is_refused_by_name(tmp_path):
    import shutil

    copy = tmp_path / "copy-of-prism"
    for folder in ("scripts", "lib"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    out = run_host(
        tmp_path,
        f"""
        load(Path({str(ROOT)!r}), False)
        try:
            load(Path({str(copy)!r}), False)
        except ImportError as error:
            print(error)
        """,
    )
    assert "two copies of Prism are installed" in out and str(copy) in out


def test_a_failed_import_leaves_no_half_built_package(tmp_path):
    broken = tmp_path / "broken"
    (broken / "lib" / "sd_prism").mkdir(parents=True)
    (broken / "lib" / "sd_prism" / "__init__.py").write_text("raise RuntimeError('half built')")
    for name in ("lib/sd_prism/bind.py", "scripts/prism_freeu.py"):
        (broken / name).parent.mkdir(exist_ok=True)
        (broken / name).write_text((ROOT / name).read_text())
    out = run_host(
        tmp_path,
        f"""
        try:
            load(Path({str(broken)!r}), False)
        except RuntimeError as error:
            print(error, "sd_prism" in sys.modules)
        """,
    )
    assert out.strip() == "half built False"
