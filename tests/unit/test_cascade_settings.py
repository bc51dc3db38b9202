"""The settings of "Prism Cascade"."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sd_prism import infotext
from sd_prism.cascade import sampling, schedule
from sd_prism.errors import OutOfRange, PrismError, UnknownName
from sd_prism.settings import CASCADE, CUSTOM
from sd_prism.settings.cascade import AUTO, CARD, FIRST_STAGE, LITE, OFFICIAL, SAMPLERS, SCHEDULES


def test_order_labels_and_choices_are_frozen():
    assert {one.name: one.label for one in CASCADE.fields} == {
        "preset": "Preset",
        "decoder": "Decoder",
        "steps": "Decoder steps",
        "cfg": "Decoder CFG",
        "sampler": "Decoder sampler",
        "schedule": "Decoder schedule",
        "seed_mode": "Decoder noise",
        "seed": "Decoder seed",
        "compression": "Compression",
        "shift_c": "Shift of stage C",
        "shift_b": "Shift of stage B",
        "rescale": "CFG rescale",
        "dtype": "Decoder precision",
        "preview_only": "Preview only",
        "save_latents": "Save latents",
        "rescale_c": "CFG rescale of stage C",
        "file_compression": "Compression of the file",
        "images": "Image prompt",
        "image_strength": "Image prompt strength",
    }
    assert CASCADE.title == "Prism Cascade"
    assert CASCADE["seed_mode"].choices == ("As the picture", "Fixed", "Random")


def test_every_sampler_and_schedule_is_offered():
    assert set(SAMPLERS) == set(sampling.SAMPLERS) and set(SCHEDULES) == set(schedule.SCHEDULES)


def test_there_is_no_switch():
    assert CASCADE.on == CASCADE.off == {} and CASCADE.read([{"steps": 5}]).keys() == CASCADE.defaults().keys()


def test_the_defaults_are_the_card():
    values = CASCADE.read({})
    assert values == {**CASCADE.defaults(), "preset": CARD}
    assert (values["sampler"], values["schedule"], values["steps"], values["cfg"]) == ("Euler a", "Karras", 10, 1.0)
    assert (values["compression"], values["shift_c"], values["shift_b"]) == (42, 2.0, 1.0)


@pytest.mark.parametrize(
    ("name", "steps", "cfg", "rescale"), [(CARD, 10, 1.0, 0.0), (OFFICIAL, 10, 1.1, 0.7), (LITE, 5, 1.0, 0.0)]
)
def test_a_preset_sets_the_decoder_and_has_wishes_for_the_first_stage(name, steps, cfg, rescale):
    values = CASCADE.read({"preset": name})
    assert (values["preset"], values["steps"], values["cfg"]) == (name, steps, cfg)
    assert values["rescale"] == values["rescale_c"] == rescale
    assert set(FIRST_STAGE[name]) == {"sampling", "scheduler", "steps", "cfg_scale"}
    assert CASCADE.read([name, "mine", 77])["steps"] == steps
    assert CASCADE.read([CUSTOM, "mine", 77])["steps"] == 77


@pytest.mark.parametrize("text", ["automatic", "AUTOMATIC", " Automatic "])
def test_automatic_is_one_name(text):
    assert CASCADE.read({"decoder": text})["decoder"] == AUTO


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"steps": 0}, OutOfRange, "Decoder steps is 0; it must lie between 1 and 100"),
        ({"cfg": 0.5}, OutOfRange, "Nearest: 1"),
        ({"compression": 31}, OutOfRange, "Nearest: 32"),
        ({"seed": -1}, OutOfRange, "Nearest: 0"),
        ({"sampler": "Euler b"}, UnknownName, "Euler a"),
        ({"enabled": True}, UnknownName, 'setting "enabled" does not exist'),
        ({"preview_only": "perhaps"}, PrismError, "true or false"),
    ],
)
def test_wrong_settings_are_told(given, error, said):
    with pytest.raises(error, match=said):
        CASCADE.read(given)


def valid(one):
    if one.choices:
        return st.sampled_from(one.choices)
    if isinstance(one.default, bool):
        return st.booleans()
    if isinstance(one.default, str):
        return st.sampled_from([AUTO, "wuerstchen-b", "a; b", 'say "b"', "folder/b [0123abcd]"])
    if isinstance(one.default, int):
        return st.integers(int(one.low), int(one.high))
    return st.floats(one.low, one.high, width=16)


settings = st.fixed_dictionaries({one.name: valid(one) for one in CASCADE.fields if not one.once})


@given(settings)
def test_infotext_round_trip(values):
    complete = CASCADE.read(values)
    again = infotext.loads(CASCADE, infotext.dumps(CASCADE, complete))
    for name in ("preset", *CASCADE.kept):
        if name == "image_strength" and not complete["images"]:
            continue  # means nothing
        value = complete[name]
        assert again[name] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)


def test_a_text_without_the_key_is_the_defaults():
    assert infotext.loads(CASCADE, None) == CASCADE.read({})
