"""Samplers by name."""

from __future__ import annotations

from typing import Any

from modules import sd_samplers_common, sd_samplers_kdiffusion, sd_schedulers

sample_to_image = sd_samplers_common.sample_to_image
samples_to_image_grid = sd_samplers_common.samples_to_image_grid
all_samplers = list(sd_samplers_kdiffusion.samplers_data_k_diffusion)
all_samplers_map = {x.name: x for x in all_samplers}
samplers = samplers_for_img2img = all_samplers
samplers_map = {key.lower(): x.name for x in all_samplers for key in (x.name, *x.aliases)}
samplers_hidden: set[str] = set()


def find_sampler_config(name: str | None) -> sd_samplers_common.SamplerData | None:
    """The sampler with this exact name; None gives the first."""
    return all_samplers_map.get(name) if name is not None else all_samplers[0]


def create_sampler(name: str, model: Any) -> Any:
    """A sampler object for one pass."""
    config = find_sampler_config(name)
    assert config is not None, f"bad sampler name: {name}"
    sampler = config.constructor(model)
    sampler.config = config
    return sampler


def visible_samplers() -> list[sd_samplers_common.SamplerData]:
    """The samplers that menus show."""
    return [x for x in samplers if x.name not in samplers_hidden]


def visible_sampler_names() -> list[str]:
    """Their names."""
    return [x.name for x in visible_samplers()]


def split_name(name: str) -> tuple[str, str | None]:
    """A name of older infotexts such as "DPM++ 2M Karras" as sampler and schedule."""
    for scheduler in sd_schedulers.schedulers:
        for suffix in (scheduler.label, scheduler.name):
            if name.lower().endswith(" " + suffix.lower()):
                return name[: -len(suffix) - 1], scheduler.label
    return name, None


def get_sampler_and_scheduler(
    sampler_name: str | None, scheduler_name: str | None, *, convert_automatic: bool = True
) -> tuple[str, str]:
    """Valid names for what an infotext says; an unknown sampler gives the first one, as in the host."""
    name, schedule = split_name(sampler_name or all_samplers[0].name)
    found = sd_schedulers.schedulers_map.get(schedule or scheduler_name or "", sd_schedulers.schedulers[0])
    sampler = all_samplers_map.get(samplers_map.get(name.lower(), ""), all_samplers[0])
    if convert_automatic and sampler.options.get("scheduler") == found.name:
        found = sd_schedulers.schedulers[0]
    return sampler.name, found.label


def get_sampler_from_infotext(d: dict) -> str:
    """The sampler that an infotext names."""
    return get_sampler_and_scheduler(d.get("Sampler"), d.get("Schedule type"))[0]


def get_scheduler_from_infotext(d: dict) -> str:
    """The schedule that an infotext names."""
    return get_sampler_and_scheduler(d.get("Sampler"), d.get("Schedule type"))[1]


def _hires_pair(params: dict[str, Any]) -> tuple[str, str]:
    """Sampler and schedule of the second pass; "Use same ..." for what the first pass has too."""
    first = params.get("Sampler"), params.get("Schedule type")
    own = params.get("Hires sampler", "Use same sampler"), params.get("Hires schedule type", "Use same scheduler")
    sampler = first[0] if own[0] == "Use same sampler" else own[0]
    schedule = first[1] if own[1] == "Use same scheduler" else own[1]
    found = get_sampler_and_scheduler(sampler, schedule)
    return (
        "Use same sampler" if found[0] == first[0] else found[0],
        "Use same scheduler" if found[1] == first[1] else found[1],
    )


def get_hr_sampler_from_infotext(d: dict[str, Any]) -> str:
    """The sampler of the second pass in an infotext."""
    return _hires_pair(d)[0]


def get_hr_scheduler_from_infotext(d: dict[str, Any]) -> str:
    """The schedule of the second pass in an infotext."""
    return _hires_pair(d)[1]
