"""Prism's panels, each on a page of its own, served with the gradio of whichever Python runs this file.

Usage: python panel_page.py PORT FOLDER, where presets are saved. "/panel/" has FreeU's panel and a button that hands
its values to the server, "/namespaces/" the one of the namespaces, "/merge/" the one of the block merge, whose host
writes a file that fails the second time, "/cascade/" the one of Stable Cascade with a webui's own controls and
gallery, "/cards/" the one of the cards with a few of a webui's controls, "/bare/" only that button, and "/facts" says
what the server got, what the panel of the namespaces told it by itself, what was baked and decoded again, and which
libraries it loaded.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))

import gradio as gr
import uvicorn
from fastapi import FastAPI
from PIL import Image
from sd_prism.cards import Store
from sd_prism.cards.card import cards_of
from sd_prism.cards.match import Match
from sd_prism.errors import PrismError
from sd_prism.panels import cards, cascade, freeu, merge, namespaces

saved = Store(sys.argv[2])
received: list = []
told: list = []


def page(build):
    """A page with what `build` draws, and a button that reads it."""

    def read(*values):
        received.append(list(values))
        return f"read {len(received)}"

    with gr.Blocks(analytics_enabled=False) as blocks:
        components = build()
        button = gr.Button("Read", elem_id="read")
        said = gr.Textbox(elem_id="said")
        button.click(read, components, said, api_name="read")
    return blocks.queue()  # as the hosts do


app = FastAPI()


@app.get("/facts")
def facts():
    return {
        "received": received,
        "told": told,
        "baked": models.baked_with,
        "asked": decoders.asked,
        "gradio": gr.__version__,
        "heavy": [x for x in ("torch",) if x in sys.modules],
    }


def store():
    return saved


def panel():
    return freeu.build(lambda name: f"script_txt2img_prism_freeu_{name}", store, lambda: "measured")


def tags():
    return namespaces.build(lambda name: f"script_txt2img_prism_namespaces_{name}", store, tell, tell)


class Models:
    """Two checkpoints, a third one after a refresh; a file is written in two steps, once."""

    def __init__(self):
        self.known, self.baked_with = ["anime", "neon"], []

    def names(self):
        return list(self.known)

    def refresh(self):
        self.known = ["anime", "neon", "photo"]

    def baked(self, given):
        if self.baked_with:
            raise PrismError("made.safetensors exists already; choose another name")
        self.baked_with.append(given)
        yield "made.safetensors", 500_000, 1_000_000
        yield "made.safetensors", 1_000_000, 1_000_000


models = Models()


def blocks():
    return merge.build(lambda name: f"script_txt2img_prism_merge_{name}", store, models)


class Decoders:
    """One decoder, two after a refresh; decoding gives a picture, but for one of 3 steps."""

    def __init__(self):
        self.known, self.asked = ["wuerstchen-b"], []

    def decoders(self):
        return list(self.known)

    def refresh(self):
        self.known.append("wuerstchen-b-lite")

    def again(self, tab, given, file):
        self.asked.append((tab, dict(given), file))
        if given["steps"] == 3:
            raise PrismError("Nothing to decode again")
        return cascade.Shown([Image.new("RGB", (8, 8), "red")], '{"infotexts": ["a fish"]}', "<p>a fish</p>")


decoders = Decoders()


def decoder():
    drawn = cascade.build(lambda name: f"script_txt2img_prism_cascade_{name}", store, decoders)
    found = {
        "sampling": gr.Dropdown(["Euler a", "DDIM"], value="DDIM", label="Sampling method", elem_id="sampling"),
        "scheduler": gr.Dropdown(["Automatic", "SGM Uniform"], value="Automatic", label="Type", elem_id="scheduler"),
        "steps": gr.Slider(1, 150, 20, step=1, label="Sampling steps", elem_id="steps"),
        "cfg_scale": gr.Slider(1, 30, 7, step=0.5, label="CFG Scale", elem_id="cfg_scale"),
        "gallery": gr.Gallery(elem_id="gallery"),
        "generation_info": gr.Textbox(visible=False),
        "html_info": gr.HTML("", elem_id="html_info"),
    }
    cascade.connect(drawn, found, "txt2img", decoders)
    return drawn.components


class Catalogue:
    """All cards, one of which is always offered."""

    store = staticmethod(store)

    def cards(self, search=""):
        return {one.name: one for one in cards_of(saved.list("card", search))}

    def find(self, name):
        return self.cards()[name]

    def offered(self, checkpoint):
        return Match(self.find("Gigafractal Diffusion"), "name", "gigafractal")

    def lacking(self, card):
        return {}

    def option(self, name):
        return 1

    def recognised(self):
        return {"base": ["sd1"], "match": {"names": ["mine"]}}


def followed():
    drawn = cards.Cards(lambda name: f"script_txt2img_prism_cards_{name}", Catalogue())
    drawn.connect(
        {
            "host.sampler": gr.Dropdown(
                ["Default", "Euler a"], value="Default", label="Sampling method", elem_id="sampling", type="index"
            ),
            "host.steps": gr.Slider(1, 150, 20, step=1, label="Sampling steps", elem_id="steps"),
            "host.cfg": gr.Slider(1, 30, 7, step=0.5, label="CFG Scale", elem_id="cfg_scale"),
            "host.clip_skip": gr.Dropdown([], value=[], multiselect=True, label="Overrides", elem_id="overrides"),
            "prompt": gr.Textbox("a cat", label="Prompt", elem_id="prompt"),
        }
    )
    return drawn.components


def tell(*values):
    told[:] = values


app = gr.mount_gradio_app(app, page(panel), path="/panel")
app = gr.mount_gradio_app(app, page(tags), path="/namespaces")
app = gr.mount_gradio_app(app, page(blocks), path="/merge")
app = gr.mount_gradio_app(app, page(decoder), path="/cascade")
app = gr.mount_gradio_app(app, page(followed), path="/cards")
app = gr.mount_gradio_app(app, page(list), path="/bare")
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
