"""The panels' pictures of `docs/screens`: each panel with telling values, on the page of a host with the miniatures.

`python -m contract.screens` with `lib` and `tests` on the path makes those of the studio, `--webui PATH --python
PYTHON` those of that webui, which `--name` names.
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from browser import launch
from contract.hosts import ROOT, Host, studio, webui
from contract.pages import opened, paste, unfold
from PIL import Image
from sd_prism import infotext
from sd_prism.miniatures import MINI_CASCADE, MINI_CASCADE_DECODER, MINI_V1, MINI_V1_NEON
from sd_prism.miniatures.pack import for_webui
from sd_prism.settings import CARDS, CASCADE, FREEU, MERGE, NAMESPACES, Panel

SCREENS = ROOT / "docs" / "screens"
VIEWPORT = {"width": 2060, "height": 2400}  # a tab's left column is half of it
WIDTH = 1000
COLOURS = 128
SETTLED = 1500  # milliseconds, for what a page redraws by itself
JOB = "Steps: 28, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"
PROMPT = "species:seal, color:black, place:snow"


class Shot(NamedTuple):
    """What one picture shows.

    Attributes:
        values: of the panel, pasted with the job as from a picture.
        awaited: what must be seen in the panel by then.
        parts: accordions that are opened; a panel that is on is open.
    """

    panel: Panel
    values: dict[str, Any]
    awaited: str
    parts: tuple[str, ...] = ()
    checkpoint: str = MINI_V1.stem
    job: str = JOB

    @property
    def root(self) -> str:
        return "#script_txt2img_" + self.panel.title.lower().replace(" ", "_")

    @property
    def pasted(self) -> str:
        told = infotext.dumps(self.panel, self.panel.read(self.values)) if self.values else ""
        return f"{PROMPT}\n{self.job}" + (f", {self.panel.title}: {told}" if told else "")


SHOTS = (
    Shot(CARDS, {}, ".prism-changes", ("panel",)),
    Shot(
        FREEU,
        {"preset": "SD 1.5 (authors)", "strength": 0.8, "schedule": "0@0 1@0.25 1@0.6 0@1"},
        '.prism-curve[data-field="schedule"] circle',
        ("advanced", "schedule_part"),
    ),
    Shot(
        NAMESPACES,
        {"dialect": "sygil", "strength": "species=1.2 place=0.8", "window": "place=0-0.6", "anti": True},
        "textarea",
        ("advanced",),
    ),
    Shot(
        MERGE,
        {"model": MINI_V1_NEON.stem, "preset": "GRAD_V", "te": "0"},
        ".prism-merge-facts:text('25 blocks')",
    ),
    Shot(
        CASCADE,
        {"decoder": MINI_CASCADE_DECODER.stem, "compression": 32},
        ".prism-cascade:text('stage B')",
        ("panel", "advanced"),
        MINI_CASCADE.stem,
        "Steps: 20, Sampler: Euler a, Schedule type: SGM Uniform, CFG scale: 5, Seed: 1, Size: 128x128",
    ),
)


def shoot(page: Any, host: Host, shot: Shot) -> Image.Image:
    """The panel, with the job and its values pasted."""
    host.post("/sdapi/v1/options", {"sd_model_checkpoint": shot.checkpoint})
    paste(page, shot.pasted)
    page.wait_for_function("(text) => document.querySelector('#txt2img_prompt textarea').value === text", arg=PROMPT)
    for part in shot.parts:
        unfold(page, f"{shot.root}_{part}")
    panel = page.locator(f"{shot.root}_panel").first
    panel.locator(shot.awaited).first.wait_for()
    page.mouse.move(0, 0)
    page.wait_for_timeout(SETTLED)
    return Image.open(io.BytesIO(panel.screenshot(animations="disabled")))


def small(image: Image.Image) -> Image.Image:
    """As wide as all, in as few colours as a page has."""
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    return image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)


@contextmanager
def running(folder: Path, args: argparse.Namespace) -> Iterator[Host]:
    """The studio, which has the miniatures, or a webui that is given them."""
    if args.webui is None:
        host = studio(folder)
    else:
        host = webui(folder, args.name, str(args.webui), str(args.python), [])
        for_webui(folder / "checkpoints", MINI_V1_NEON)
        for file in (MINI_CASCADE, MINI_CASCADE_DECODER):
            shutil.copy(file, folder / "checkpoints")
    try:
        host.start()
        yield host
    finally:
        host.end()


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panels", nargs="*", metavar="PANEL", help="only these, such as freeu")
    parser.add_argument("--webui", type=Path, help="the folder of a webui")
    parser.add_argument("--python", type=Path, help="that webui's Python")
    parser.add_argument("--name", help="the host in the files' names (default: studio, a1111 with --webui)")
    args = parser.parse_args()
    args.name = args.name or ("a1111" if args.webui else "studio")
    with TemporaryDirectory() as folder, running(Path(folder), args) as host, sync_playwright() as playwright:
        browser = launch(playwright)
        with opened(browser, host, f"{SHOTS[0].root}_panel", switch="") as page:
            page.set_viewport_size(VIEWPORT)
            for shot in SHOTS:
                if not args.panels or shot.panel.name in args.panels:
                    file = SCREENS / f"{shot.panel.name}-{args.name}.png"
                    small(shoot(page, host, shot)).save(file, optimize=True)
                    print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1000:.0f} kB", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
