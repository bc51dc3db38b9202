""" "Prism Block Merge" in a webui: recipes written into the loaded model before the prompts of a batch are encoded.

A merge changes the model's own weights; networks stay on top of them. It stays in the model until a job asks for
another one or for none, so that a grid over seeds merges once. Jobs that do not ask at all get the model as it was
loaded, and an error in a job restores it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from modules import extra_networks, processing, script_callbacks, sd_vae, shared

from ... import infotext
from ...errors import PrismError, UnknownName
from ...merge.blocks import BASE, VAE
from ...merge.grammar import when_text
from ...merge.recipe import LOADED, Recipe
from ...schedule import short
from ...settings import MERGE, Field, Value
from ...settings.merge import OFF, recipe_of
from .. import pipelines, presets
from ..progress import progress, steps_taken
from ..undo import around, undo
from ..webui import PanelHost
from . import fused, http, models, page

TAG = "merge"
KEY = "prism_merge"  # among the extra networks, in the host's key of its conds
MODELS = "Prism merge models"
FILE = "_prism_merge_file"  # a job's own checkpoint; a job that has none was not told to us
STATES = 8  # different merges of one run
VAE_CHANGES = "reload_vae_weights", "restore_vae_weights"  # of the host; not every one has both
MODEL_FIELDS, RECIPE_FIELDS = ("model", "minus"), ("recipe", "hires")


class MergeHost(PanelHost):
    """Models are written into the infotext with the hashes of their files."""

    cost = 0.5  # an axis of models or weights changes less often than one of seeds

    def _values(self, p: Any, args: Sequence[object], family: str | None) -> dict[str, Value]:
        values = super()._values(p, args, family)
        return named(values) if values["enabled"] else values

    def choices(self, one: Field) -> Callable[[], list[str]] | None:
        return models.names if one.name in MODEL_FIELDS else super().choices(one)


def named(values: dict[str, Value]) -> dict[str, Value]:
    """With every model under its title, where it is known, and presets of the user's own as weights."""
    found = dict(values)
    for name in MODEL_FIELDS:
        if values[name]:
            found[name] = _known(models.title, str(values[name]))
    own = models.own_presets(shared.sd_model)
    if values["weights"] in own:
        found["weights"] = " ".join(map(short, own[str(values["weights"])]))
    for name in RECIPE_FIELDS:
        if values[name] not in ("", OFF):
            found[name] = _known(_titled, str(Recipe.parse(str(values[name]), own)))
    return found


def _titled(text: str) -> str:
    return str(models.titled(Recipe.parse(text)))


def _known(name: Callable[[str], str], text: str) -> str:
    try:
        return name(text)
    except UnknownName:  # told when it is merged
        return text


host = MergeHost(MERGE)


@dataclass(frozen=True)
class Run:
    """What the running pass merges, step by step, and into which model."""

    recipes: tuple[Recipe, ...]
    file: str


run = Run((), "")


def register() -> None:
    host.register()
    undo.enter(MERGE.name, held())
    http.register()
    script_callbacks.on_before_ui(add_network)
    script_callbacks.on_cfg_denoiser(before_call)
    pipelines.register(before_encoding=before_pass, before_call=before_call, after_failure=after_failure)


def ui(script: Any) -> list[Any]:
    from ...panels import merge

    return host.drawn(script, lambda: merge.build(script.elem_id, presets.store, page))


# --- what is done to the host


class Tags(extra_networks.ExtraNetwork):
    """Has the host know `<merge:...>`; what the tags ask for is done once the host has told all networks."""

    def activate(self, p: Any, params_list: Any, **more: Any) -> None:
        pass

    def deactivate(self, p: Any) -> None:
        pass


def add_network() -> None:
    network = Tags(TAG)
    extra_networks.register_extra_network(network)
    if hasattr(extra_networks, "register_extra_network_alias"):
        extra_networks.register_extra_network_alias(network, KEY)
    else:
        extra_networks.register_extra_network(Tags(KEY))


def held() -> ExitStack:
    """Until it is closed: jobs without us are not merged into, nor does the host keep a VAE that was."""
    stack = ExitStack()
    stack.callback(models.restore_all)
    stack.enter_context(around(processing, "process_images_inner", _job))
    for name in VAE_CHANGES:
        if hasattr(sd_vae, name):
            stack.enter_context(around(sd_vae, name, _vae_change))
    return stack


def _job(original: Callable[..., Any], p: Any, *args: Any, **kwargs: Any) -> Any:
    """A job; one that was told no script of ours, and one that fails, leaves the model as it was loaded."""
    if not hasattr(p, FILE):
        models.restore_all()
    try:
        return original(p, *args, **kwargs)
    except BaseException:
        models.restore_all()
        raise


def _vae_change(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Before another VAE is loaded, the host may put the one that is there aside; it may name it, and not the model."""
    given = args[0] if args else kwargs.get("sd_model")
    model = shared.sd_model if given is None or isinstance(given, str) else given
    if models.touches(model, VAE):
        models.restore(model)
    return original(*args, **kwargs)


# --- a job


def before_process(p: Any) -> None:
    setattr(p, FILE, "")


def process(p: Any, args: Sequence[object]) -> None:
    """Start of a job: models that are kept in memory besides the one in use are restored, for they may be used next."""
    global run
    run = Run((), "")
    p.extra_generation_params.pop(MODELS, None)
    host.begin(p, args)
    setattr(p, FILE, _file())
    models.restore_all(keep=shared.sd_model)
    if getattr(p, "init_images", None) and (host.current(p) or models.touches(shared.sd_model, VAE)):
        apply(p, hires=False, tagged=False)  # the host encodes them next, and reads tags after that


def networks_told(p: Any, data: Mapping[str, Any]) -> None:
    """The host has parsed the tags of a pass, and is about to encode its prompts."""
    apply(p, hires=data is getattr(p, "hr_extra_network_data", None))


def before_encoding(p: Any) -> None:
    """As the last hook before prompts are encoded, where the job has no networks told."""
    if p.disable_extra_networks or pipelines.used():
        apply(p, hires=False)


def before_pass(p: Any) -> None:
    """Before the prompts of a pass are encoded, where webuis draw with pipelines."""
    progress.begin_pass()
    hires = bool(getattr(p, "is_hr_pass", False))
    if hasattr(p, FILE) and (hires or _file() != run.file):
        apply(p, hires)


def before_sampling(p: Any) -> None:
    """A hires checkpoint may have come; without networks told, the hires pass begins here."""
    progress.begin_pass()
    hires = bool(getattr(p, "is_hr_pass", False))
    if (hires and p.disable_extra_networks) or _file() != run.file:
        apply(p, hires)


def before_call(params: Any) -> None:
    """Before each call of the model: a refiner may have come, or the step of another merge."""
    p = getattr(getattr(params, "denoiser", None), "p", None)
    if not hasattr(p, FILE):
        return
    if run.recipes and _file() != run.file:
        apply(p, bool(getattr(p, "is_hr_pass", False)))
    if len(set(run.recipes)) > 1:
        progress.before_call(params)
        step = int(progress.steps() * len(run.recipes) + 1e-6)
        _write(p, run.recipes[step])


def after_failure(p: Any) -> None:
    """A batch broke or was interrupted, and the webui goes on as if it had not."""
    models.restore_all()


def apply(p: Any, hires: bool, tagged: bool = True) -> None:
    """Merge what a pass begins with; an error is told, and the pass has the model as it was loaded."""
    global run
    run = Run((), _file())
    with _told(p):
        recipe, steps = wanted(p, hires, tagged), max(steps_taken(p, hires), 1)
        if recipe != Recipe() and _is_ours(p):
            refuse_other_unet()
            note(p, recipe)
            run = Run(recipe.run(steps, STATES), _file())
        for text in idle(host.current(p), recipe, steps):
            host.remark(p, text)
    if any(one != Recipe() for one in run.recipes):
        _write(p, run.recipes[0])
    else:
        models.restore(shared.sd_model)
    mark(p, hires)


def _write(p: Any, recipe: Recipe) -> None:
    with _told(p):
        fused.take_out(p)
        plan = models.merge(shared.sd_model, recipe)
        for text in plan.notes:
            host.remark(p, text)
        if recipe.terms and not plan.wishes:
            host.remark(p, "Nothing is merged: all weights are 0")


@contextmanager
def _told(p: Any) -> Iterator[None]:
    """An error ends the merge of the pass: it is told under the picture, and the model is as it was loaded.

    One of ours ends there, for a host would pass over it unseen; any other one is raised once more for the log.
    """
    global run
    try:
        yield
    except Exception as error:
        run = Run((), _file())
        p.extra_generation_params.pop(MODELS, None)
        host.fail(p, error)
        models.restore(shared.sd_model)
        if not isinstance(error, PrismError):
            raise


def wanted(p: Any, hires: bool, tagged: bool = True) -> Recipe:
    """The panel's recipe, then the tags of the pass's prompt, if they are known already."""
    values = host.current(p)
    recipe = recipe_of(values, hires=hires) if values else Recipe()
    asked = tags(p, hires) if tagged else []
    own = models.own_presets(shared.sd_model) if asked else {}
    for text in asked:
        more = Recipe.parse(text, own)
        bases = {one for one in (recipe.base, more.base) if one != LOADED}
        if len(bases) > 1:
            raise PrismError(f"Two bases are asked for: {' and '.join(sorted(bases))}; leave one away")
        recipe = Recipe((*recipe.terms, *more.terms), bases.pop() if bases else LOADED)
    return models.titled(recipe) if recipe.models else recipe


def idle(values: Mapping[str, Value] | None, recipe: Recipe, steps: int) -> Iterator[str]:
    """What of a merge does nothing in a pass of so many steps, though it was asked for."""
    if values and not (values["model"] or values["recipe"] or recipe.terms):
        yield "Nothing is merged: choose model B, or write a recipe under More models"
    for term in recipe.terms:
        if not any(term.strength(step, steps) for step in range(steps)):
            yield f"{term.model} is not merged: step={when_text(term.when)} is never reached in {steps} steps"


def tags(p: Any, hires: bool) -> list[str]:
    """What stands in `<merge:...>` in the first prompt of a batch, which is the one that a host looks at."""
    if p.disable_extra_networks:
        return []
    data = getattr(p, _data(hires), None) or {}
    return [":".join(map(str, params.items)) for params in data.get(TAG, ())]


def note(p: Any, recipe: Recipe) -> None:
    """The models of a picture, where the panel's settings do not name them."""
    told = infotext.dumps(MERGE, host.current(p) or MERGE.defaults())
    unnamed = [one for one in recipe.models if one not in told]
    if unnamed:
        p.extra_generation_params[MODELS] = "; ".join(unnamed)


def mark(p: Any, hires: bool) -> None:
    """What is merged into the text encoder belongs to the key under which the host keeps conds.

    Conds of the hires pass may be made with those of the first one.
    """
    for name in {_data(True), _data(hires)}:
        data = getattr(p, name, None)
        if not isinstance(data, dict):
            continue
        data.pop(KEY, None)
        if models.touches(shared.sd_model, BASE):
            told = [str(run.recipes[0]), *map(str, models.identities(shared.sd_model))]
            data[KEY] = [extra_networks.ExtraNetworkParams(items=[sha256("\n".join(told).encode()).hexdigest()])]


def _data(hires: bool) -> str:
    """Where a job has the networks that a pass's prompts name; pipelines have the first pass's in the second."""
    if pipelines.used():
        return "network_data"
    return "hr_extra_network_data" if hires else "extra_network_data"


def _is_ours(p: Any) -> bool:
    """Whether the model in use is the job's own; a hires checkpoint and a refiner are merged into on request."""
    values = host.current(p)
    return _file() == getattr(p, FILE) or bool(values and values["everywhere"])


def _file() -> str:
    return str(shared.sd_model.sd_checkpoint_info.filename)


def refuse_other_unet() -> None:
    """A host's alternative UNet (TensorRT and the like) has weights of its own."""
    try:
        from modules import sd_unet
    except ImportError:
        return
    if getattr(sd_unet, "current_unet", None) is not None:
        raise PrismError(
            "Block merge needs the model's own UNet, but the webui runs another one; "
            'choose "None" at Settings, Stable Diffusion, SD Unet'
        )
