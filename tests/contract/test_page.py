"""The page: its elements, Reload UI, restart, disabling and removing; the same in every host."""

from __future__ import annotations

import json
from contextlib import contextmanager

from contract.hosts import PRISM, ROOT
from contract.jobs import JOB, freeu
from contract.pages import fill, opened, unfold
from sd_prism.settings import FREEU, PANELS

B1 = "customscript/prism_freeu.py/txt2img/Stage 1 backbone/value"
PANEL_ID = "script_txt2img_prism_freeu"
B1_ID = f"{PANEL_ID}_b1"

# What extensions' scripts, user styles and browser tests look up.
IDS = (
    *("txt2img_generate", "txt2img_prompt", "txt2img_neg_prompt", "txt2img_width", "txt2img_height", "txt2img_steps"),
    *("txt2img_cfg_scale", "txt2img_gallery", "html_info_txt2img", "txt2img_hr", "txt2img_hr_upscaler", "paste"),
    *("txt2img_script_container", "script_list", "txt2img_token_counter", "txt2img_interrupt", "settings_submit"),
    *("settings_restart_gradio", "setting_sd_model_checkpoint", "footer", "tab_txt2img", "img2img_generate"),
)


def pngs(host):
    return [host.draw({**JOB, **part})[0].png for part in ({}, freeu(True), freeu({"preset": "SD 1.4 (authors)"}))]


def panels(host):
    return host.get("/sdapi/v1/scripts")["txt2img"].count(FREEU.title.lower())


def test_the_extension_is_found_without_an_error(host):
    assert "Error loading script" not in host.log.read_text(errors="replace")
    assert "PrismFreeU" in host.state()["scripts"]


def test_the_page_has_the_elements_that_others_look_up(host):
    page = [one["props"].get("elem_id") for one in host.get("/config")["components"]]
    assert host.own_page or not set(IDS) - set(page)
    own = [one for one in page if one and "prism_freeu" in one]
    assert len(own) == len(set(own)) >= 2 * len(FREEU.fields)


def test_reload_ui_twice_changes_nothing(host):
    pictures, before = pngs(host), host.state()  # of a model that some load with the first picture
    assert before["callbacks"] > 0 and len(before["axes"]) == sum(len(one.fields) for one in PANELS) == len(
        set(before["axes"])
    )
    for _ in range(2):
        host.reload()
        assert host.state() == before
        assert panels(host) == 1
        assert pngs(host) == pictures


def test_reload_ui_waits_for_no_page_that_has_left(browser, host):
    """One that goes before it has told what it asks for; gradio 3 would keep that in its queue."""

    def untold(socket):
        server = socket.connect_to_server()
        socket.on_message(lambda message: None if '"data"' in message else server.send(message))

    with opened(browser, host, f"#{PANEL_ID}_panel") as page:
        page.evaluate(f"document.querySelector('#{PANEL_ID}_panel-checkbox input').click()")
        unfold(page, f"#{PANEL_ID}_advanced")
        page.route_web_socket("**/queue/join", untold)
        fill(page, f"#{B1_ID}", "1.3")
        page.wait_for_timeout(2000)
    host.reload()
    assert pngs(host)


def test_a_saved_default_outlives_reload(host):
    with saved_default(host, B1, 1.25):
        host.reload()
        assert host.component(B1_ID)["value"] == 1.25
    host.reload()
    assert host.component(B1_ID)["value"] == FREEU["b1"].default


@contextmanager
def saved_default(host, key, value):
    """Another default in ui-config.json, which keeps it whatever the host does; some name changed ones only."""
    file = host.data / "ui-config.json"
    original = json.loads(file.read_text(encoding="utf8"))
    assert original.get(key) != value
    assert not [key for key in original if "prism_freeu.py" in key and "/Preset/" in key]
    file.write_text(json.dumps({**original, key: value}), encoding="utf8")
    yield
    assert json.loads(file.read_text(encoding="utf8")) == {**original, key: value}
    file.write_text(json.dumps(original), encoding="utf8")


def gone(host):
    """Nothing of Prism is left, and nothing that it had done."""
    state = host.state()
    assert panels(host) == state["hooks"] == state["callbacks"] == 0
    assert state["axes"] == [] and state["own torch.cat"]
    assert "PrismFreeU" not in state["scripts"]
    assert not {"hosts", "panels"}.intersection(state["packages"])


def test_disabled_it_leaves_nothing_behind(host):
    before, (plain, *_), pictures = host.state(), pngs(host), pngs(host)
    host.post("/sdapi/v1/options", {"disabled_extensions": [PRISM]})
    try:
        host.reload()
        gone(host)
        assert host.draw(JOB)[0].png == plain
    finally:
        host.post("/sdapi/v1/options", {"disabled_extensions": []})
        host.reload()
    assert host.state() == before
    assert pngs(host) == pictures


def test_removed_it_leaves_nothing_behind_but_its_saved_defaults(host):
    (plain, *_) = pictures = pngs(host)
    folder = host.data / "extensions" / PRISM
    with saved_default(host, B1, 1.25):
        folder.unlink()
        try:
            host.restart()
            gone(host)
            assert host.draw(JOB)[0].png == plain
        finally:
            folder.symlink_to(ROOT, target_is_directory=True)
            host.reload()
        assert host.component(B1_ID)["value"] == 1.25
        assert pngs(host) == pictures
