"""Single files of Cascade in a webui of diffusers' pipelines (SD.Next), which by itself loads Cascade from folders.

The networks are put into the webui's own pipeline, and the webui goes on from there.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMWuerstchenScheduler, StableCascadeCombinedPipeline
from modules import (
    devices,
    model_stablecascade,
    prompt_parser_diffusers,
    sd_detect,
    sd_models,
    sd_vae_stablecascade,
    shared,
)

from ...cascade import formats
from ...cascade.colours import colours
from ...cascade.weights import chosen
from ...errors import PrismError
from ...merge.sources import identity
from ...settings.cascade import AUTO
from ..undo import around
from ..webui import loaded_model
from . import decoders, in_diffusers
from .checking import checked, role

log = logging.getLogger("prism")

TYPE = "Stable Cascade"  # as the webui calls it
TOKENS = 77
UNETS = "sd_unet"  # the webui's menu of UNets
SOURCE = "prism_source"  # on networks that were read here: where from

Key = tuple[str, object, torch.dtype]


def is_cascade(pipe: Any) -> bool:
    return isinstance(pipe, StableCascadeCombinedPipeline)


def is_file(pipe: Any) -> bool:
    """Whether a pipeline of Cascade is of a single file."""
    return Path(pipe.sd_checkpoint_info.filename).is_file()


def wrapped() -> ExitStack:
    """Until it is closed, the webui loads single files, too."""
    stack = ExitStack()
    stack.enter_context(around(sd_models, "reload_model_weights", _reload))
    stack.enter_context(around(sd_detect, "detect_pipeline", _detected))
    stack.enter_context(around(model_stablecascade, "load_cascade_combined", _combined))
    stack.enter_context(around(prompt_parser_diffusers, "get_weighted_text_embeddings", _embedded))
    return stack


def _reload(original: Callable[..., Any], sd_model: Any = None, info: Any = None, *args: Any, **kwargs: Any) -> Any:
    """The webui drops the loaded model before it looks at the next one, so a wrong file is refused here."""
    found, before = info or sd_models.select_checkpoint(op=kwargs.get("op", "model")), loaded_model()
    is_new = before is None or found is None or before.sd_checkpoint_info.filename != found.filename
    if found is not None and is_new and _is_ours(found.filename):
        try:
            checked(Path(found.filename))
        except PrismError as error:
            log.error("%s", error)
            raise
    return original(sd_model, info, *args, **kwargs)


def _is_ours(path: str) -> bool:
    return Path(path).is_file() and bool(role(path))


def _detected(original: Callable[..., Any], path: str, *args: Any, **kwargs: Any) -> Any:
    """The webui asks which pipeline a checkpoint is of."""
    return (StableCascadeCombinedPipeline, TYPE) if _is_ours(path) else original(path, *args, **kwargs)


def _combined(original: Callable[..., Any], info: Any, config: dict[str, Any]) -> Any:
    """The webui loads Cascade: by its pipeline's function for folders, unless names or its menu of UNets say more."""
    if not _is_ours(info.filename):
        return original(info, config)
    if getattr(shared.opts, UNETS, "None") != "None":
        log.warning("The menu of UNets does nothing for %s, which has its own stage C", info.name)
    nameless = copy.copy(info)
    nameless.name = ""
    with _loads(lambda: assembled(info, config["torch_dtype"])):
        return original(nameless, config)


@contextmanager
def _loads(make: Callable[[], Any]) -> Iterator[None]:
    """While the webui's own function gets a pipeline of what is made here in place of a folder's."""
    pipeline: Any = StableCascadeCombinedPipeline
    options = shared.opts.data
    set_before = {UNETS: options[UNETS]} if UNETS in options else {}
    options[UNETS] = "None"
    pipeline.from_pretrained = staticmethod(lambda *args, **kwargs: make())
    try:
        yield
    finally:
        del pipeline.from_pretrained  # which it inherits
        del options[UNETS]
        options.update(set_before)


def assembled(info: Any, dtype: torch.dtype) -> Any:
    """A checkpoint's pipeline; its decoder is the one that belongs to it, or none until a job names one."""
    file = checked(Path(info.filename))
    part = file.parts["stage_c"]
    tokenizer = in_diffusers.tokenizer(TOKENS)
    decoder, vqgan = _beside(info)
    return StableCascadeCombinedPipeline(
        tokenizer=tokenizer,
        text_encoder=None,
        decoder=decoder,
        scheduler=DDPMWuerstchenScheduler(),
        vqgan=vqgan,
        prior_prior=in_diffusers.unet(part, _narrowed(part, dtype)),
        prior_text_encoder=in_diffusers.text_encoder(file.parts["text"], dtype),
        prior_tokenizer=tokenizer,
        prior_scheduler=DDPMWuerstchenScheduler(),
    )


def _narrowed(part: formats.Part, dtype: torch.dtype) -> torch.dtype:
    """The webui's format; fp16 where stage C can be had in it."""
    return dtype if dtype != torch.float16 else formats.dtype_for(part, None, devices.device)


def _beside(info: Any) -> tuple[Any, Any]:
    try:
        return read(str(decoders.find(AUTO, info).filename), AUTO)
    except PrismError as error:
        log.warning("%s", error)
        return None, None


def key(path: str, precision: str) -> Key:
    """What tells decoders in memory apart."""
    dtype = devices.dtype if precision == AUTO else chosen("", False, precision, devices.device)
    return path, identity(Path(path)), dtype


def read(path: str, precision: str) -> tuple[Any, Any]:
    """Stage B and stage A of a file.

    Raises:
        PrismError: it lacks one of them, or it cannot be read.
    """
    file, source = formats.inspect(path), key(path, precision)
    decoder = in_diffusers.unet(file.part("stage_b"), source[-1])
    setattr(decoder, SOURCE, source)
    return decoder, in_diffusers.stage_a(file.part("stage_a"), source[-1])


def _embedded(
    original: Callable[..., Any], pipe: Any, prompt: str = "", neg_prompt: str = "", *args: Any, **kw: Any
) -> Any:
    """The webui leaves the pooled text out of encoders as narrow as Stable Diffusion's, such as a miniature's."""
    states, pooled, negative, negative_pooled = original(pipe, prompt, neg_prompt, *args, **kw)
    if pooled is None and is_cascade(pipe):
        provider = prompt_parser_diffusers.prepare_embedding_providers(pipe, 1)[0]
        texts = (provider.get_pooled_embeddings([text], device=devices.device) for text in (prompt, neg_prompt))
        pooled, negative_pooled = texts
    return states, pooled, negative, negative_pooled


def set_previews(pipe: Any) -> None:
    """Has the webui preview stage C of a file by what comes with it, where it would download a network for that."""
    previews: Any = None  # with which the webui asks for its own
    if is_cascade(pipe) and is_file(pipe):
        file = formats.inspect(pipe.sd_checkpoint_info.filename)
        previews = colours
        if "previewer" in file.parts:
            dtype = sd_vae_stablecascade.dtype
            previews = formats.load(file, "previewer", dtype=dtype, device=devices.device)
    sd_vae_stablecascade.preview_model = previews


def in_use() -> Any:
    """The loaded pipeline of Cascade; None for any other model."""
    pipe = loaded_model()
    return pipe if is_cascade(pipe) else None
