"""`<lora:name:te:unet>` in prompts: networks of the Lora folder on the UNet and the text encoders.

Arguments as in the host: te and unet are strengths (unet is te unless given, te is 1), then the number of ranks to
use; all three also as te=, unet= and dyn=.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gradio as gr
from modules import errors, extra_networks, patches, script_callbacks, shared, ui_extra_networks
from modules.sd_hijack import model_hijack
from modules.textual_inversion.textual_inversion import create_embedding_from_data
from modules.ui_extra_networks import quote_js
from sd_prism.cascade import direct
from sd_prism.errors import PrismError
from sd_prism.studio import lora

catalogue = lora.Catalogue()
stack = lora.Stack()
UNSIGNED = str.maketrans("", "", ":,")
TAG = re.compile("<lora:([^:]+):")


def list_available_networks() -> None:
    """Look for files anew."""
    catalogue.scan(Path(shared.cmd_opts.lora_dir), functools.partial(print, file=sys.stderr))


def _layered(sd_model: Any) -> Any:
    """What of a loaded model has the layers: the engine's, or an extension's own."""
    return getattr(sd_model, "engine", sd_model)


def name_layers(sd_model: Any) -> None:
    """Give the layers of a newly loaded model the names that networks know them by."""
    sd_model.network_layer_mapping = lora.name_layers(_layered(sd_model))


class ExtraNetworkLora(extra_networks.ExtraNetwork):
    """What answers to the tag."""

    def __init__(self) -> None:
        super().__init__("lora")
        self.bundled: list[str] = []

    def activate(self, p: Any, params_list: list[extra_networks.ExtraNetworkParams]) -> None:
        """Have the networks of these tags on and no others; what cannot be had is remarked under the picture."""
        stack.failed.clear()
        before = {network.name: network for network in stack.networks}
        used = [network for params in params_list if (network := self._network(params, before))]
        stack.use(used)
        self._use_embeddings()
        if shared.opts.lora_add_hashes_to_infotext and (used or hasattr(p, "lora_hashes")):
            self._note_hashes(p)

    def _network(self, params: extra_networks.ExtraNetworkParams, before: dict[str, lora.Network]) -> Any:
        """The network of one tag, read unless it was on before; None after a remark."""
        name = params.positional[0] if params.positional else ""
        try:
            numbers = lora.tag_numbers(params.positional[1:], params.named)
            network = self._read(name, before)
        except ValueError:
            tag = ":".join(map(str, params.items))
            model_hijack.comments.append(f"<lora:{tag}> is left out: its strengths must be numbers, as in <lora:x:0.8>")
            return None
        except PrismError as error:
            errors.report(str(error))
            model_hijack.comments.append(str(error))
            return None
        network.te_multiplier, network.unet_multiplier, network.dyn_dim = numbers
        return network

    def _read(self, name: str, before: dict[str, lora.Network]) -> lora.Network:
        if catalogue.find(name) is None:
            list_available_networks()
        file = catalogue.find(name)
        if file is None or not file.filename.exists():
            raise PrismError(f"Lora not found: {name}")
        if not hasattr(shared.sd_model, "network_layer_mapping"):
            name_layers(shared.sd_model)
        known = before.get(name)
        if known and known.file is file and known.read_at == file.filename.stat().st_mtime:
            return known
        network = lora.Network.read(name, file, _layered(shared.sd_model))
        if not network.changes:
            raise PrismError(f"Lora {name} is for another kind of model; none of its layers is in this one")
        return network

    def _use_embeddings(self) -> None:
        """Let prompts name the embeddings in the networks' files; those of the embeddings folder come first."""
        database = model_hijack.embedding_db
        for name in self.bundled:
            database.register_embedding_by_name(None, shared.sd_model, name)
        self.bundled.clear()
        brought = [(network.name, item) for network in stack.networks for item in network.embeddings.items()]
        for network, (name, tensors) in brought:
            embedding = create_embedding_from_data(tensors, name)
            embedding.shorthash = network
            if embedding.shape == database.get_expected_shape() and name not in database.word_embeddings:
                database.register_embedding(embedding, shared.sd_model)
                self.bundled.append(name)

    def _note_hashes(self, p: Any) -> None:
        if not getattr(p, "is_hr_pass", False) or not hasattr(p, "lora_hashes"):
            p.lora_hashes = {}
        p.lora_hashes |= {network.name.translate(UNSIGNED): network.file.shorthash for network in stack.networks}
        if p.lora_hashes:
            p.extra_generation_params["Lora hashes"] = ", ".join(f"{k}: {v}" for k, v in p.lora_hashes.items())

    def deactivate(self, p: Any) -> None:
        """Say which networks did not fit everywhere."""
        if stack.failed:
            counts = ", ".join(f"{name} ({count})" for name, count in stack.failed.items())
            p.comment(f"Networks with errors: {counts}")
            stack.failed.clear()


class ExtraNetworksPageLora(ui_extra_networks.ExtraNetworksPage):
    """The networks as cards; a click adds the tag."""

    def __init__(self) -> None:
        super().__init__("Lora")

    def refresh(self) -> None:
        """Look for files anew."""
        list_available_networks()

    def list_items(self) -> Iterable[dict[str, Any]]:
        """A card for each network."""
        for name, file in list(catalogue.files.items()):
            alias = catalogue.prompt_name(file, shared.opts.lora_preferred_name != "Filename")
            yield {
                "name": name,
                "filename": str(file.filename),
                "shorthash": file.shorthash,
                "description": self.find_description(str(file.filename.with_suffix(""))),
                "search_terms": [self.search_terms_from_path(str(file.filename)), file.hash],
                "prompt": quote_js(f"<lora:{alias}:{shared.opts.extra_networks_default_multiplier:g}>"),
                "metadata": file.metadata,
            }

    def allowed_directories_for_previews(self) -> list[str]:
        """The Lora folder."""
        return [shared.cmd_opts.lora_dir]


def before_ui() -> None:
    """Register what Reload UI forgets."""
    list_available_networks()
    network = ExtraNetworkLora()
    extra_networks.register_extra_network(network)
    extra_networks.register_extra_network_alias(network, "lyco")
    ui_extra_networks.register_page(ExtraNetworksPageLora())


def add_routes(demo: Any, app: Any) -> None:
    """The host's routes for networks."""

    @app.get("/sdapi/v1/loras")
    def get_loras() -> list[dict[str, Any]]:
        """The networks."""
        return [
            {"name": x.name, "alias": x.alias, "path": str(x.filename), "metadata": x.metadata}
            for x in catalogue.files.values()
        ]

    @app.post("/sdapi/v1/refresh-loras")
    def refresh_loras() -> None:
        """Look for networks anew."""
        list_available_networks()


def infotext_pasted(infotext: str, params: dict[str, Any]) -> None:
    """Call networks by the names that they have here, where their hashes say what is meant."""
    pairs = (pair.rsplit(":", 1) for pair in params.get("Lora hashes", "").split(",") if ":" in pair)
    hashes = {name.strip(): shorthash.strip() for name, shorthash in pairs}
    here = {file.shorthash: file for file in catalogue.files.values()} if hashes else {}

    def renamed(tag: re.Match) -> str:
        file = here.get(hashes.get(tag[1].translate(UNSIGNED), ""))
        return f"<lora:{catalogue.prompt_name(file)}:" if file else tag[0]

    if here:
        params["Prompt"] = TAG.sub(renamed, params["Prompt"])


def undo_patches() -> None:
    """Torch's layers are what they were. Weights need no undoing: a layer's fields tell the next stack about them."""
    for kind, method, _ in lora.patches(stack):
        patches.undo(__name__, kind, method)


for kind, method, replacement in lora.patches(stack):
    patches.patch(__name__, kind, method, replacement)
    direct.tolerate(replacement, stack.settled)
script_callbacks.on_model_loaded(name_layers)
script_callbacks.on_script_unloaded(undo_patches)
script_callbacks.on_before_ui(before_ui)
script_callbacks.on_app_started(add_routes)
script_callbacks.on_infotext_pasted(infotext_pasted)
shared.options_templates.update(
    shared.options_section(
        ("extra_networks", "Extra Networks", "sd"),
        {
            "lora_preferred_name": shared.OptionInfo(
                "Alias from file",
                "When adding to prompt, refer to Lora by",
                gr.Radio,
                {"choices": ["Alias from file", "Filename"]},
            ),
            "lora_add_hashes_to_infotext": shared.OptionInfo(True, "Add Lora hashes to infotext"),
        },
    )
)
