"""The panel "Prism Cascade" in a browser, on every host's own gradio."""

from __future__ import annotations

import hashlib

import pytest
from contract.jobs import JOB
from contract.pages import choose, field, fill, generate, opened, paste, told, unfold, wait
from contract.test_cascade import AGAIN, BLIND, DECODER, MAIN, OTHER, PICTURES, furnished, has_place, needs
from PIL import Image
from sd_prism import infotext
from sd_prism.miniatures import MINI_V1
from sd_prism.settings import CASCADE
from sd_prism.settings.cascade import AUTO, CARD, OFFICIAL

ROOT = "#script_txt2img_prism_cascade"
LINE = f"{ROOT}_panel .prism-cascade"
SMALL = {"steps": 3, "width": 128, "height": 96}
# Interrupts as soon as stage B has begun, as the webui tells its own page.
STOP = """async () => {
  const told = await (await fetch("/sdapi/v1/progress?skip_current_image=true")).json();
  if (!told.state.job || told.textinfo !== "Stage B") return false;  // the text stays when a job is over
  document.querySelector("#txt2img_interrupt").click();
  return true;
}"""


@pytest.fixture(scope="module", autouse=True)
def files(host):
    yield from furnished(host)


@pytest.fixture
def page(request, browser, host):
    """A fresh page with the panel open."""
    has_place(request, host)
    with opened(browser, host, f"{ROOT}_panel", switch="") as page:
        unfold(page, f"{ROOT}_panel")
        page.locator(f"{ROOT}_panel").first.scroll_into_view_if_needed()
        yield page


def waits_for_line(page, text):
    page.wait_for_function(
        "([line, text]) => document.querySelector(line).textContent.includes(text)", arg=[LINE, text]
    )


def sized(page, width, height):
    fill(page, "#txt2img_width", str(width))
    fill(page, "#txt2img_height", str(height))


def test_the_line_has_the_real_sizes_and_follows_them(page):
    sized(page, 1024, 1536)
    waits_for_line(page, f"Stage C 24x36, stage B 256x384 · {DECODER}")
    unfold(page, f"{ROOT}_advanced")
    fill(page, f"{ROOT}_compression", "32")
    waits_for_line(page, "Stage C 32x48, stage B 256x384")
    sized(page, 1080, 1920)
    waits_for_line(page, "multiples of 128")
    page.click(f"{ROOT}_refresh")  # the page was built before the files were there
    page.wait_for_timeout(1000)
    choose(page, f"{ROOT}_decoder", OTHER)
    waits_for_line(page, f"· {OTHER}")


@needs("presets that set its controls")
def test_a_preset_is_for_the_webuis_own_controls_as_well(page):
    choose(page, f"{ROOT}_preset", OFFICIAL)
    wait(page, f"{ROOT}_cfg", "1.1")
    wait(page, "#txt2img_sampling", "Euler a")
    wait(page, "#txt2img_scheduler", "SGM Uniform")
    wait(page, "#txt2img_cfg_scale", "4")
    choose(page, f"{ROOT}_preset", CARD)
    wait(page, "#txt2img_cfg_scale", "7")
    wait(page, "#txt2img_steps", "30")


@AGAIN
def test_decoding_again_fills_the_gallery(page):
    first = generate(page, **SMALL)
    assert f"{CASCADE.title}: " in first and f"decoder={DECODER}" in first
    fill(page, f"{ROOT}_steps", "4")
    second = told(page, lambda: page.click(f"{ROOT}_again"))
    assert second == first.replace(f"preset={CARD}; ", "").replace("steps=10", "steps=4")
    assert page.locator("#txt2img_gallery img").count() >= 1


@AGAIN
def test_decoding_again_can_be_interrupted(page, host):
    whole = generate(page, steps=3, width=1024, height=1024)  # large enough to be stopped before it is done
    fill(page, f"{ROOT}_steps", "100")
    page.wait_for_timeout(500)

    def decode_and_stop():
        page.click(f"{ROOT}_again")
        page.wait_for_selector("#txt2img_interrupt", state="visible")
        page.wait_for_function(STOP, polling=50)

    assert "steps=100" in told(page, decode_and_stop) and "steps=10;" in whole
    state = host.get("/sdapi/v1/progress")["state"]
    assert state["interrupted"] or state["sampling_step"] < state["sampling_steps"]  # reForge takes the former back
    page.wait_for_selector("#txt2img_interrupt", state="hidden")
    page.wait_for_selector("#txt2img_generate", state="visible")


@PICTURES
def test_chosen_pictures_are_named_and_followed(page, tmp_path):
    unfold(page, f"{ROOT}_image_prompt")
    files = [tmp_path / f"{name}.png" for name in ("one", "two")]
    for file, side in zip(files, (32, 48)):
        Image.new("RGB", (side, side), "red").save(file)
    page.locator(f"{ROOT}_pictures input[type=file]").set_input_files(files)
    names = " ".join(hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in files)
    wait(page, f"{ROOT}_images", names)
    assert f"images={names}" in generate(page, **SMALL)


@PICTURES
def test_without_a_vision_encoder_there_is_a_message_instead(page, host):
    unfold(page, f"{ROOT}_image_prompt")
    place = f"{ROOT}_panel .prism-cascade-blind"
    assert page.locator(f"{ROOT}_images").is_visible() and not page.locator(place).inner_text()
    host.post("/sdapi/v1/options", {"sd_model_checkpoint": BLIND})
    try:
        host.draw({**JOB, "steps": 1, "width": 128, "height": 128})
        page.click(f"{ROOT}_refresh")
        page.wait_for_selector(f"{place}:text('no vision encoder')")
        assert not page.locator(f"{ROOT}_images").is_visible()
    finally:
        host.post("/sdapi/v1/options", {"sd_model_checkpoint": MAIN})


@AGAIN
def test_what_is_wrong_with_a_file_of_latents_is_told(page, tmp_path):
    file = tmp_path / "none.safetensors"
    file.write_bytes(b"nothing")
    unfold(page, f"{ROOT}_advanced")
    page.locator(f"{ROOT}_latents input[type=file]").set_input_files(file)
    page.wait_for_selector(f"{ROOT}_latents :text('none')")
    page.click(f"{ROOT}_again")
    page.wait_for_selector(f"{ROOT}_told :text('holds no latents')")


def test_a_paste_fills_the_panel_and_another_pictures_leaves_it_alone(page):
    values = CASCADE.read({"steps": 12, "decoder": OTHER, "sampler": "Euler"})
    ours = f"a cat\nSteps: 1, Sampler: Euler, Seed: 1, Size: 64x64, {CASCADE.title}: {infotext.dumps(CASCADE, values)}"
    for text in (ours, "a cat\nSteps: 2, Sampler: Euler, Seed: 1, Size: 64x64"):
        paste(page, text)
        wait(page, "#txt2img_steps", "1" if text == ours else "2")
        wait(page, f"{ROOT}_steps", "12")
        wait(page, f"{ROOT}_decoder", OTHER)


def test_with_another_checkpoint_the_panel_says_so_and_does_nothing(page, host):
    host.post("/sdapi/v1/options", {"sd_model_checkpoint": MINI_V1.stem})
    try:
        host.draw({**JOB, "steps": 1})
        page.click(f"{ROOT}_refresh")
        waits_for_line(page, "none of Stable Cascade")
        assert CASCADE.title not in generate(page, **SMALL)
    finally:
        host.post("/sdapi/v1/options", {"sd_model_checkpoint": MAIN})


def test_no_id_is_there_twice(page):
    unfold(page, f"{ROOT}_advanced")
    page.wait_for_selector(f"{ROOT}_save_latents", state="attached")
    ids = page.evaluate("[...document.querySelectorAll('[id^=script_txt2img_prism_cascade]')].map((one) => one.id)")
    drawn = set(CASCADE.names) - {"images", "image_strength"}  # theirs are under a line that is closed
    assert len(ids) == len(set(ids)) and {f"{ROOT[1:]}_{name}" for name in drawn} <= set(ids)
    assert field(page, f"{ROOT}_decoder").input_value() == AUTO
