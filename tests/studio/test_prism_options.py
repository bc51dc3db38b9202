"""The section "Prism" of the settings: what is hidden, what panels start with, what a picture tells."""

from __future__ import annotations

import gradio as gr
import jobs
import pytest
from sd_prism.settings import FREEU, PANELS
from sd_prism.studio import host, page

OPTIONS = {"prism_data_dir": "", "prism_hidden_panels": [], "prism_infotext": "short", "prism_start_freeu": "Custom"}
AUTHORS = "SDXL (authors)"
FREEU_ON = {"enabled": True, "b1": 1.25}


@pytest.fixture
def studio(data):
    """Opens the studio with Prism's scripts and these settings; its page's scripts by title."""

    def opened(**settings):
        host.open_host(data_dir=data)
        from modules import scripts, shared

        shared.opts.data.update(settings)
        page.build()
        return {script.title(): script for script in scripts.scripts_txt2img.alwayson_scripts}

    yield opened
    host.close_host()


def drawn(studio_scripts, values):
    """The infotext of a tiny job with these settings of FreeU."""
    from modules import scripts

    p = jobs.job("txt2img", scripts.scripts_txt2img)
    args, freeu = list(p.script_args), studio_scripts[FREEU.title]
    args[freeu.args_from] = values
    p.script_args = tuple(args)
    return jobs.run(p).infotexts[0]


def test_the_settings_page_has_the_section(studio):
    studio()
    from modules import shared
    from sd_prism.studio.page import settings

    keys = settings.sections()[("prism", "Prism")]
    assert {key: getattr(shared.opts, key) for key in OPTIONS} == OPTIONS
    for key in keys:
        with gr.Blocks():
            assert settings.component(key).elem_id == f"setting_{key}"


def test_over_http_nobody_chooses_where_files_are_written(studio):
    from sd_prism.errors import PrismError

    studio()
    with pytest.raises(PrismError, match="can only be changed on the page"):
        host.change_settings({"prism_data_dir": "/tmp"}, is_api=True)


def test_a_hidden_panel_is_not_on_the_page_and_still_takes_its_arguments(studio):
    shown = studio()
    counts = {panel.title: shown[panel.title].args_to - shown[panel.title].args_from for panel in PANELS}
    host.close_host()
    hidden = studio(prism_hidden_panels=[panel.title for panel in PANELS])
    for panel in PANELS:
        script = hidden[panel.title]
        assert script.args_to - script.args_from == counts[panel.title] == len(panel.fields)
        assert not any(control.visible for control in (script.group, *script.controls))
        assert panel.read([control.value for control in script.controls]) == panel.read(panel.off)
    assert "Prism FreeU: version=2; b1=1.25" in drawn(hidden, FREEU_ON)


def test_a_hidden_panel_is_off_whatever_the_page_had_saved(studio, data):
    (data / "ui-config.json").write_text('{"customscript/prism_freeu.py/txt2img/Prism FreeU/value": true}')
    script = studio(prism_hidden_panels=[FREEU.title])[FREEU.title]
    assert script.controls[0].value is False


def test_a_page_starts_with_the_preset_that_the_settings_name(studio):
    shown = studio(prism_start_freeu=AUTHORS)
    values = dict(zip(FREEU.names, (control.value for control in shown[FREEU.title].controls)))
    assert values == FREEU.read({"enabled": False, "preset": AUTHORS})
    assert values["b1"] != FREEU["b1"].default and "Prism FreeU" not in drawn(shown, False)


def test_a_preset_that_is_gone_leaves_the_panel_at_its_defaults(studio, caplog):
    shown = studio(prism_start_freeu="was mine")
    assert [control.value for control in shown[FREEU.title].controls] == list(FREEU.defaults().values())
    assert 'Preset "was mine" does not exist' in caplog.text


@pytest.mark.parametrize(
    ("amount", "told"),
    [("full", "start=0; stop=1"), ("short", "Prism FreeU: version=2; b1=1.25; s1=0.9; b2=1.6; s2=0.2"), ("none", "")],
)
def test_a_picture_tells_as_much_as_the_settings_say(studio, amount, told):
    text = drawn(studio(prism_infotext=amount), FREEU_ON)
    if amount == "none":
        assert "Prism FreeU" not in text
        return
    assert told in text
    from modules.infotext_utils import parse_generation_parameters
    from sd_prism import infotext

    params = parse_generation_parameters(text, [])
    assert infotext.loads(FREEU, params[FREEU.title]) == FREEU.read(FREEU_ON)
