"""An extension that writes one line per hook of a host, does on request what bad extensions do, and tells the state
of the host's inside at /contract/state. It knows the host's public names only.

The line: the hook, then what it got. `p` is followed by those of its fields that are set by then.
"""

import gc
import hashlib
import sys
from importlib.util import find_spec
from pathlib import Path

import gradio as gr
import torch
from fastapi import Body
from modules import extra_networks, processing, prompt_parser, script_callbacks, scripts, shared, ui
from PIL import Image

LOG = Path(scripts.basedir()) / "log.txt"
TIMING = ("all_prompts", "all_seeds", "all_hr_prompts", "rng", "prompts", "seeds", "extra_network_data", "c", "sampler")
NOT_HOOKS = {"title", "show", "ui", "run", "elem_id", "describe", "on_before_component", "on_after_component"}
SD_NEXT, RE_FORGE = not hasattr(scripts.Script, "post_sample"), bool(find_spec("ldm_patched"))
KNOWN_ONLY = {"extra_noise"} if SD_NEXT else set()  # there is no list for it
BARE = scripts.ScriptRunner() if SD_NEXT or RE_FORGE else None  # where a job has to have a list of scripts
TOO_MANY = {"before_component", "after_component"}
wish = ""  # what the running job is asked to do, from the probe's only argument
done = []  # the last job's result
batches = []  # what was about to be encoded since it was last asked for, batch by batch


def note(hook, *values, **named):
    """One line; raises if the job wishes this hook, or every hook, to fail."""
    shown = [described(value) for value in values] + [f"{name}={described(named[name])}" for name in named]
    with LOG.open("a", encoding="utf8") as file:
        file.write(" ".join([hook, *shown]) + "\n")
    if wish in (f"fail in {hook}", "fail everywhere"):
        raise RuntimeError(f"on purpose, in {hook}")


def described(value):
    """Kind, shape and, of small things, the value."""
    if isinstance(value, torch.Tensor):
        return f"Tensor{tuple(value.shape)}".replace(" ", "")
    if isinstance(value, Image.Image):
        return f"Image{value.mode}{value.size}".replace(" ", "")
    if isinstance(value, (list, tuple)):
        return f"[{described(value[0])}*{len(value)}]" if value else "[]"
    if isinstance(value, dict):
        return "{" + ",".join(sorted(map(str, value))) + "}"
    if isinstance(value, (bool, int)) or value is None:
        return repr(value)
    if isinstance(value, processing.StableDiffusionProcessing):
        known = [name for name in TIMING if getattr(value, name, None) is not None]
        return f"p({','.join([*known, 'is_hr_pass'] if value.is_hr_pass else known)})"
    if isinstance(value, script_callbacks.UiTrainTabParams):
        return "UiTrainTabParams"  # of a tab that not every host has
    if type(value).__module__ in ("modules.script_callbacks", "modules.scripts"):
        fields = ",".join(f"{name}={described(one)}" for name, one in sorted(vars(value).items()))
        return f"{type(value).__name__}({fields})"
    if value is shared.demo:
        return "demo"
    roles = {"add_api_route": "app", "first_stage_model": "model"}
    kinds = [one.__name__ for one in type(value).__mro__]
    if "CFGDenoiser" in kinds or kinds[0].endswith("Denoiser"):  # one for each kind of sampler and of prediction
        return "CFGDenoiser" if "CFGDenoiser" in kinds else "Denoiser"
    return next((role for sign, role in roles.items() if hasattr(value, sign)), kinds[0])


class Probe(scripts.Script):
    def __init__(self):
        note("__init__")

    def title(self):
        return "Contract probe"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        note("ui", is_img2img)
        return [gr.Textbox("", label="Wish", elem_id=self.elem_id("wish"))]

    def setup(self, p, *args):
        listen(*args)
        note("setup", p, *args)

    def before_process(self, p, *args):
        listen(*args)  # SD.Next knows a setup, and never calls it
        note("before_process", p, *args)

    def process_before_every_sampling(self, p, *args, **kwargs):
        if wish == "break the job":
            break_next_step()
        note("process_before_every_sampling", p, *args, same=kwargs["x"] is kwargs["noise"], **kwargs)

    def process_batch(self, p, *args, **kwargs):
        if wish == "break the job" and not hasattr(scripts.Script, "process_before_every_sampling"):
            break_next_step()
        names = ("prompts", "negative_prompts", "hr_prompts", "hr_negative_prompts", "extra_network_data")
        batches.append({name: getattr(p, name, None) for name in names})
        data = p.network_data if hasattr(p, "network_data") else p.extra_network_data
        batches[-1]["extra_network_data"] = sorted(data)
        if SD_NEXT:
            batches[-1]["hr_prompts"] = [p.refiner_prompt or text for text in p.prompts]
            batches[-1]["hr_negative_prompts"] = [p.refiner_negative or text for text in p.negative_prompts]
        note("process_batch", p, *args, **kwargs)

    def postprocess(self, p, processed, *args):
        done[:] = [processed]
        note("postprocess", p, processed, *args)
        if wish in ("nest", "nest bare") and not hasattr(p, "nested"):
            nest(p, processed)


def hook_named(name):
    def hook(self, p, *args, **kwargs):
        note(name, p, *args, **kwargs)

    return hook


for name in set(vars(scripts.Script)) - set(vars(Probe)) - NOT_HOOKS - TOO_MANY:
    if callable(getattr(scripts.Script, name)) and not name.startswith("_"):
        setattr(Probe, name, hook_named(name))


def listen(asked):
    """What a job is asked to do."""
    global wish
    wish = asked
    mend_prism()
    if wish.startswith("break Prism's "):
        break_prism(wish.split()[-1])


broken = {}  # functions of Prism by name


def break_prism(name):
    """A defect in one of Prism's own hooks."""

    def stop(*args):
        raise RuntimeError(f"on purpose, in Prism's {name}")

    prism = sys.modules["sd_prism.hosts.freeu"]
    broken[name] = getattr(prism, name)
    setattr(prism, name, stop)


def mend_prism():
    for name in list(broken):
        setattr(sys.modules["sd_prism.hosts.freeu"], name, broken.pop(name))


def break_next_step():
    """An exception in the middle of the job, where no hook catches it."""

    def stop(module, args):
        handle.remove()
        raise RuntimeError("on purpose, in the job")

    handle = parts()[0].register_forward_pre_hook(stop)


def nest(p, processed):
    """Another picture inside this job, as detailers make it: with the same scripts, or with none."""
    inner = processing.StableDiffusionProcessingTxt2Img(
        sd_model=shared.sd_model,
        prompt=p.prompt,
        seed=p.all_seeds[0],
        sampler_name=p.sampler_name,
        **({"scheduler": p.scheduler} if hasattr(p, "scheduler") else {}),
        steps=p.steps,
        cfg_scale=p.cfg_scale,
        width=p.width,
        height=p.height,
        do_not_save_samples=True,
        do_not_save_grid=True,
    )
    inner.nested, inner.is_api = True, p.is_api
    inner.scripts, inner.script_args = (BARE, []) if wish == "nest bare" else (p.scripts, p.script_args)
    made = processing.process_images(inner)
    processed.images.extend(made.images)
    processed.infotexts.extend(made.infotexts)


class Net(extra_networks.ExtraNetwork):
    def __init__(self):
        super().__init__("probe")

    def activate(self, p, params_list, **more):
        note("activate", len(params_list))

    def deactivate(self, p):
        note("deactivate")


def callback_named(name):
    def callback(*args, **kwargs):
        if name == "before_ui":
            extra_networks.register_extra_network(Net())
        note(name, *args, **kwargs)
        if name == "app_started":
            started(args[1])
        return []

    return callback


for name in sorted(vars(script_callbacks)):
    if name.startswith("on_") and name[3:] not in {*TOO_MANY, *KNOWN_ONLY}:
        getattr(script_callbacks, name)(callback_named(name[3:]))


def started(app):
    """A page is up. The route looks the answer up anew, because a host may keep its app over Reload UI."""
    sys.contract_state = state
    sys.contract_prompts = prompts
    sys.contract_conds = conds
    sys.contract_comments = lambda: done[0].comments
    sys.contract_weights = weights
    app.add_api_route("/contract/state", lambda: sys.contract_state(), methods=["GET"])
    app.add_api_route("/contract/prompts", lambda: sys.contract_prompts(), methods=["GET"])
    app.add_api_route("/contract/conds", lambda: sys.contract_conds(), methods=["GET"])
    app.add_api_route("/contract/comments", lambda: sys.contract_comments(), methods=["GET"])
    app.add_api_route("/contract/weights", lambda: sys.contract_weights(), methods=["GET"])
    app.add_api_route("/contract/read", read, methods=["POST"])
    app.add_api_route("/contract/count", count, methods=["POST"])


def prompts():
    """The texts of all batches since this was last asked for."""
    found = list(batches)
    batches.clear()
    return found


def read(prompt: str = Body(...), steps: int = Body(...)):
    """What the host makes of a prompt: [AND weight, [[last step, [[text, weight], ...]], ...]] of each part."""
    parts, texts, _ = prompt_parser.get_multicond_prompt_list([prompt])
    schedules = prompt_parser.get_learned_conditioning_prompt_schedules(texts, steps)
    read_texts = [[[end, prompt_parser.parse_prompt_attention(text)] for end, text in one] for one in schedules]
    return [[weight, read_texts[index]] for index, weight in parts[0]]


def count(prompt: str = Body(...), style: str = Body(""), positive: bool = Body(True)):
    """The text of the token counter."""
    return ui.update_token_counter(prompt, 20, [style] if style else [], is_positive=positive)


def parts():
    """The loaded model's UNet, VAE and text encoders, as far as there are any yet."""
    model, own = shared.sd_model, getattr(shared.sd_model, "forge_objects", None)
    if own is not None:
        return [own.unet.model.diffusion_model, own.vae.first_stage_model, own.clip.cond_stage_model]
    if hasattr(model, "prior_pipe"):
        return [model.prior_pipe.prior, model.vqgan, model.prior_pipe.text_encoder]
    if hasattr(model, "scheduler"):
        return [model.unet, model.vae, model.text_encoder]
    if not hasattr(model, "model"):  # a webui that loads none before the first job
        return []
    texts = model.cond_stage_model
    texts = [one.model for one in texts.encoders] if hasattr(texts, "encoders") else [texts]
    return [model.model.diffusion_model, model.first_stage_model, *texts]


def weights():
    """A hash of every weight of the loaded model, networks and all; fp8 and the like by their bytes."""
    found = hashlib.sha256()
    for part in parts():
        for name, tensor in sorted(part.named_parameters()):
            data = tensor.detach().cpu().contiguous()
            found.update(name.encode() + data.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


seen = []  # every cond that a cache has held: kept, so that no other takes its place


def conds():
    """What the caches of positive and negative conds hold, first pass and hires, as numbers in order of appearance.

    Nothing where a host has no such caches.
    """
    if SD_NEXT:
        return []
    first, second = processing.StableDiffusionProcessing, processing.StableDiffusionProcessingTxt2Img
    held = [cache[1] for cache in (first.cached_c, first.cached_uc, second.cached_hr_c, second.cached_hr_uc)]
    seen.extend(one for one in held if not any(one is other for other in seen))
    return [next(number for number, other in enumerate(seen) if one is other) for one in held]


MODELS = "CascadeModel", "CascadeEngine", "CascadeShell"  # of Prism, by host
KINDS = ("is_sd1", "is_sd2", "is_sdxl", "is_ssd", "is_sd3", "is_cascade")


def state():
    """What Prism has done to the host, in numbers."""
    gc.collect()
    modules = [one for unet in parts()[:1] for one in unet.modules()]
    hooks = [len(one._forward_pre_hooks) + len(one._forward_hooks) for one in modules]
    callbacks = [one for found in script_callbacks.callback_map.values() for one in found]
    axes = [
        option.label
        for entry in scripts.scripts_data
        if entry.script_class.__module__ in ("xyz_grid.py", "scripts.xyz_grid")
        for option in entry.module.axis_options
    ]
    return {
        "hooks": sum(hooks),
        "callbacks": sum(getattr(one.callback, "__module__", "").startswith("sd_prism.") for one in callbacks),
        "axes": [label for label in axes if "Prism" in label],
        "scripts": sorted(entry.script_class.__name__ for entry in scripts.scripts_data),
        "packages": sorted({name.split(".")[1] for name in sys.modules if name.startswith("sd_prism.")}),
        "model": [name for name in KINDS if getattr(shared.sd_model, name, False)],
        "cascade models": sum(type(one).__name__ in MODELS for one in gc.get_objects()),
        "own torch.cat": type(torch.cat).__name__ == "builtin_function_or_method",
    }
