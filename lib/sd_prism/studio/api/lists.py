"""What there is to choose from, and looking for it again."""

from typing import Any

from fastapi import APIRouter


def _fields(item: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(item, name) for name in names}


def add_routes(router: APIRouter) -> None:
    """The routes of this part."""
    _add_sampling(router)
    _add_models(router)
    _add_prompts(router)
    _add_scripts(router)


def _add_sampling(router: APIRouter) -> None:
    from modules import sd_samplers, sd_schedulers, shared
    from modules.api import models

    @router.get("/samplers", response_model=list[models.SamplerItem])
    def samplers() -> Any:
        """The samplers, with their older names."""
        return [
            {"name": x.name, "aliases": x.aliases, "options": {key: str(value) for key, value in x.options.items()}}
            for x in sd_samplers.all_samplers
        ]

    @router.get("/schedulers", response_model=list[models.SchedulerItem])
    def schedulers() -> Any:
        """The noise schedules."""
        names = ("name", "label", "aliases", "default_rho", "need_inner_model")
        return [_fields(x, *names) for x in sd_schedulers.schedulers]

    @router.get("/upscalers", response_model=list[models.UpscalerItem])
    def upscalers() -> Any:
        """The picture upscalers."""
        return [
            {"name": x.name, "model_name": x.scaler.model_name, "model_path": x.data_path, "scale": x.scale}
            for x in shared.sd_upscalers
        ]

    @router.get("/latent-upscale-modes", response_model=list[models.LatentUpscalerModeItem])
    def latent_upscale_modes() -> Any:
        """The upscalers that work on latents."""
        return [{"name": name} for name in shared.latent_upscale_modes]


def _add_models(router: APIRouter) -> None:
    from modules import sd_models, sd_vae
    from modules.api import models
    from modules.call_queue import wrap_queued_call

    @router.get("/sd-models", response_model=list[models.SDModelItem])
    def checkpoints() -> Any:
        """The checkpoints."""
        names = ("title", "model_name", "hash", "sha256", "filename")
        return [_fields(x, *names) for x in sd_models.checkpoints_list.values()]

    @router.get("/sd-vae", response_model=list[models.SDVaeItem])
    def vaes() -> Any:
        """The VAE files."""
        return [{"model_name": name, "filename": filename} for name, filename in sd_vae.vae_dict.items()]

    @router.post("/refresh-checkpoints")
    def refresh_checkpoints() -> None:
        """Look for checkpoints again."""
        wrap_queued_call(sd_models.list_models)()

    @router.post("/refresh-vae")
    def refresh_vae() -> None:
        """Look for VAE files again."""
        wrap_queued_call(sd_vae.refresh_vae_list)()

    @router.post("/unload-checkpoint")
    def unload_checkpoint() -> dict[str, Any]:
        """Free the memory that the checkpoint takes; the next job loads it again."""
        wrap_queued_call(sd_models.unload_model_weights)()
        return {}

    @router.post("/reload-checkpoint")
    def reload_checkpoint() -> dict[str, Any]:
        """Load the chosen checkpoint if it is not loaded."""
        wrap_queued_call(sd_models.reload_model_weights)()
        return {}


def _add_prompts(router: APIRouter) -> None:
    from modules import sd_hijack, shared
    from modules.api import models
    from modules.call_queue import wrap_queued_call

    database = sd_hijack.model_hijack.embedding_db

    @router.get("/prompt-styles", response_model=list[models.PromptStyleItem])
    def prompt_styles() -> Any:
        """The styles."""
        return [_fields(x, "name", "prompt", "negative_prompt") for x in shared.prompt_styles.styles.values()]

    @router.get("/embeddings", response_model=models.EmbeddingsResponse)
    def embeddings() -> Any:
        """The embeddings that fit the loaded checkpoint, and those that do not."""
        names = ("step", "sd_checkpoint", "sd_checkpoint_name", "shape", "vectors")
        return {
            "loaded": {x.name: _fields(x, *names) for x in database.word_embeddings.values()},
            "skipped": {x.name: _fields(x, *names) for x in database.skipped_embeddings.values()},
        }

    @router.post("/refresh-embeddings")
    def refresh_embeddings() -> None:
        """Look for embeddings again."""
        wrap_queued_call(database.load_textual_inversion_embeddings)(force_reload=True)


def _add_scripts(router: APIRouter) -> None:
    from modules import scripts
    from modules.api import models

    runners = (scripts.scripts_txt2img, scripts.scripts_img2img)

    @router.get("/scripts", response_model=models.ScriptsList)
    def script_names() -> Any:
        """The names of all scripts."""
        txt2img, img2img = ([x.name for x in runner.scripts if x.name] for runner in runners)
        return {"txt2img": txt2img, "img2img": img2img}

    @router.get("/script-info", response_model=list[models.ScriptInfo])
    def script_info() -> Any:
        """The arguments of all scripts, for both tabs."""
        return [x.api_info for runner in runners for x in runner.scripts if x.api_info is not None]
