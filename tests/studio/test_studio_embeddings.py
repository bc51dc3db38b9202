"""Textual inversion and the token counter in the host, with the real text encoders of small models."""

from __future__ import annotations

import hashlib
import io

import pytest
import torch
from checkpoints import Original
from PIL import Image
from safetensors.torch import save_file
from sd_prism.studio import generate, host

JOB = {"prompt": "a red fish", "steps": 2, "seed": 3, "width": 64, "height": 64, "sampler_name": "Euler"}
WIDTH = {"sd1": 64, "sdxl": (64, 128)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    models = folder / "models" / "Stable-diffusion"
    models.mkdir(parents=True)
    for family in WIDTH:
        Original(family).save(models / f"{family}.safetensors")
    draw(folder)
    from modules import shared

    # "shiny" has the vectors of "red" and "fish" themselves, so that nobody can tell the difference.
    own = shared.sd_model.cond_stage_model.encode_embedding_init_text("red fish", 2).clone()
    (folder / "embeddings" / "below").mkdir(parents=True)
    save_file({"emb_params": own}, folder / "embeddings" / "below" / "shiny.safetensors")
    draw(folder, "sdxl")
    both = shared.sd_model.cond_stage_model.encode_embedding_init_text("red fish", 2).split(WIDTH["sdxl"], 1)
    large = {"clip_l": both[0].contiguous().half(), "clip_g": both[1].contiguous().half()}
    save_file(large, folder / "embeddings" / "gleaming fin.safetensors")
    save_file({"emb_params": torch.ones(1, 7)}, folder / "embeddings" / "narrow.safetensors")
    yield folder
    host.close_host()


def draw(folder, model="sd1", **fields):
    request = {**JOB, "override_settings": {"sd_model_checkpoint": f"{model}.safetensors"}, **fields}
    return generate.generate(request, data_dir=folder)


def pixels(result):
    return Image.open(io.BytesIO(result.images[0])).tobytes()


def database():
    from modules import sd_hijack

    return sd_hijack.model_hijack.embedding_db


def test_an_embedding_is_what_its_vectors_are(folder):
    plain = draw(folder)
    assert pixels(draw(folder, prompt="a shiny")) == pixels(plain)
    assert pixels(draw(folder, prompt="a fish")) != pixels(plain)


def test_sdxl_has_vectors_for_both_encoders(folder):
    plain, on = draw(folder, "sdxl"), draw(folder, "sdxl", prompt="a gleaming fin")
    one, two = (torch.frombuffer(bytearray(pixels(x)), dtype=torch.uint8).int() for x in (plain, on))
    assert (one - two).abs().max() <= 2  # the file's halves are rounded
    assert pixels(draw(folder, "sdxl", prompt="a gleaming")) != pixels(plain)


def test_infotext_has_the_hash_once_for_each_prompt(folder):
    digest = hashlib.sha256((folder / "embeddings" / "below" / "shiny.safetensors").read_bytes()).hexdigest()[:12]
    assert f'TI hashes: "shiny: {digest}"' in draw(folder, prompt="a shiny boat").infotexts[0]
    both = draw(folder, prompt="a shiny tree", negative_prompt="shiny").infotexts[0]
    assert f'TI hashes: "shiny: {digest}, shiny: {digest}"' in both
    assert "TI hashes" not in draw(folder, prompt="a boat").infotexts[0]


def test_what_does_not_fit_the_model_is_skipped_and_said(folder, capsys):
    draw(folder)
    database().load_textual_inversion_embeddings(force_reload=True)
    assert list(database().word_embeddings) == ["shiny"]
    assert sorted(database().skipped_embeddings) == ["gleaming fin", "narrow"]
    draw(folder, "sdxl")
    assert list(database().word_embeddings) == ["gleaming fin"]
    assert "Embedding shiny is 64 wide and not used; this model needs 192." in capsys.readouterr().out


def test_new_files_are_found_by_the_next_job(folder, capsys):
    draw(folder)
    added = folder / "embeddings" / "zsecond.safetensors"
    pickle = folder / "embeddings" / "zold.pt"
    try:
        pickle.write_bytes(b"a pickle")
        save_file({"any name": torch.ones(WIDTH["sd1"])}, added)
        draw(folder)
        assert "zsecond" in database().word_embeddings and database().word_embeddings["zsecond"].vectors == 1
        assert "zold.pt is a pickle" in capsys.readouterr().err
    finally:
        added.unlink()
        pickle.unlink()


def test_the_longest_name_wins_and_names_can_be_taken_back(folder):
    draw(folder)
    from modules import shared
    from modules.textual_inversion.textual_inversion import create_embedding_from_data

    base = create_embedding_from_data({"x": torch.ones(1, 64)}, "shiny")
    longer = create_embedding_from_data({"x": torch.ones(3, 64)}, "shiny boat")
    db, tokens = database(), shared.sd_model.cond_stage_model.tokenize(["shiny boat shiny"])[0]
    kept = db.word_embeddings["shiny"]
    try:
        db.register_embedding(base, shared.sd_model)
        db.register_embedding(longer, shared.sd_model)
        found = [db.find_embedding_at_position(tokens, i) for i in range(3)]
        assert found == [(longer, 2), (None, None), (base, 1)]
    finally:
        db.register_embedding_by_name(None, shared.sd_model, "shiny boat")
        db.register_embedding(kept, shared.sd_model)
    assert db.find_embedding_at_position(tokens, 0) == (kept, 1)


def count(text, styles=(), **options):
    from modules import ui

    return ui.update_token_counter(text, 20, list(styles), **options)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a red fish", "3/75"),
        ("", "0/75"),
        ("a <lora:x:1> fish", "2/75"),
        ("[a cat:a very big dog:0.5] AND a", "4/75"),
        ("a shiny fish", "4/75"),
        ("fish " * 80, "80/150"),
        ("(fish:1.2.3)", "-/-"),
    ],
)
def test_the_counter_shows_the_longest_text_of_a_run(folder, text, shown):
    draw(folder)
    assert count(text) == f"<span class='gr-box gr-text-input'>{shown}</span>"


def test_the_counter_knows_styles_and_scripts(folder):
    draw(folder)
    from modules import script_callbacks, shared, styles

    shared.prompt_styles.styles["long"] = styles.PromptStyle("long", "one two three", "four")
    assert ">5/75<" in count("fish", ["long"]) and ">3/75<" in count("fish", ["long"], is_positive=False)
    script_callbacks.on_before_token_counter(lambda params: setattr(params, "prompt", "a b c d e f"))
    try:
        assert ">6/75<" in count("fish")
    finally:
        script_callbacks.remove_current_script_callbacks()


def test_the_counter_says_nothing_before_a_model_is_there(folder):
    draw(folder)
    from modules import sd_hijack, shared

    sd_hijack.model_hijack.undo_hijack(shared.sd_model)
    assert ">-/-<" in count("a red fish")
    sd_hijack.model_hijack.hijack(shared.sd_model)
