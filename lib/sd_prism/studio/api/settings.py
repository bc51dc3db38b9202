"""The settings, the command line and the memory of the studio."""

from typing import Any

from fastapi import APIRouter

from sd_prism.studio import host


def add_routes(router: APIRouter) -> None:
    """The routes of this part."""
    from modules import shared
    from modules.api import models

    # The settings are declared by then, those of extensions too. Their values are not converted on the way.
    options_model = models.options_model(shared.opts.data_labels)
    flags_model = models.flags_model(vars(shared.cmd_opts))

    @router.get("/options", response_model=None, responses={200: {"model": options_model}})
    def get_options() -> dict[str, Any]:
        """The settings."""
        declared = {key: info.default for key, info in shared.opts.data_labels.items() if not info.do_not_save}
        return {**declared, **shared.opts.data}

    @router.post("/options")
    def set_options(request: dict[str, Any]) -> None:
        """Change settings and save them; another sd_model_checkpoint is loaded."""
        host.change_settings(request, is_api=True)

    @router.get("/cmd-flags", response_model=flags_model)
    def cmd_flags() -> dict[str, Any]:
        """What the studio was started with; no passwords."""
        return {**vars(shared.cmd_opts), "api_auth": None, "gradio_auth": None}

    @router.get("/memory", response_model=models.MemoryResponse)
    def memory() -> Any:
        """The memory in use, in bytes."""
        return {"ram": _ram(), "cuda": _cuda()}


def _ram() -> dict[str, float]:
    import psutil

    used, total = psutil.Process().memory_info().rss, psutil.virtual_memory().total
    return {"free": total - used, "used": used, "total": total}


def _cuda() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return {"error": "unavailable"}
    free, total = torch.cuda.mem_get_info()
    statistics = torch.cuda.memory_stats()
    memory: dict[str, Any] = {"system": {"free": free, "used": total - free, "total": total}}
    for name, key in (("active", "active"), ("allocated", "allocated"), ("reserved", "reserved")):
        memory[name] = {end: statistics[f"{key}_bytes.all.{end}"] for end in ("current", "peak")}
    memory["inactive"] = {end: statistics[f"inactive_split_bytes.all.{end}"] for end in ("current", "peak")}
    memory["events"] = {"retries": statistics["num_alloc_retries"], "oom": statistics["num_ooms"]}
    return memory
