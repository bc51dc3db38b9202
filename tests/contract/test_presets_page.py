"""The user's own presets on the page: saved, kept, deleted and taken back, imported and handed over, in every host."""

from __future__ import annotations

import json
import re

import pytest
from contract import pages
from sd_prism.settings import CUSTOM, FREEU, MERGE, PANELS

BUILT_IN = "SD 2.1 (authors)"
ROLES = ("button", "checkbox", "combobox", "link", "radio", "searchbox", "slider", "spinbutton", "textbox")
# Opens a panel, by its switch if it has one; a page that is still being built may swallow a click.
OPEN = """(root) => {
  const box = document.querySelector(`${root}_panel-checkbox input`);
  const label = document.querySelector(`${root}_panel .label-wrap`);
  if (box ? !box.checked : !label?.classList.contains("open")) (box ?? label)?.click();
  return Boolean(document.querySelector(`${root}_preset_save`)?.offsetParent);
}"""
# Opens whatever is closed in a panel; true when nothing is.
OPEN_ALL = """(selector) => {
  const closed = [...document.querySelectorAll(`${selector} .label-wrap:not(.open)`)];
  closed.forEach((label) => label.click());
  return !closed.length;
}"""

# Goes to a field as soon as it can be seen, before our script looks at the page.
HURRY = """(selector) => {
  const field = document.querySelector(`${selector} :is(input, textarea)`);
  if (field?.offsetParent) field.focus();
  return field === document.activeElement;
}"""
# Has our script look at the page once more: it gives a button its tip back.
UPDATE = """(selector) => {
  const button = document.querySelector(selector);
  button.title = "";
  button.parentElement.append(document.createElement("i"));
}"""


def root(panel):
    return f"#script_txt2img_{panel.title.lower().replace(' ', '_')}"


def ready(page, panel=FREEU):
    """With the panel open, and everything in it, which gradio 6 draws only then."""
    page.wait_for_function(OPEN, arg=root(panel), polling=500)
    page.wait_for_function(OPEN_ALL, arg=f"{root(panel)}_panel", polling=1000)


@pytest.fixture
def page(browser, host):
    """A fresh page with FreeU's panel open; what it saves is gone after the test."""
    with pages.opened(browser, host, f"{root(FREEU)}_panel") as page:
        ready(page)
        yield page
    for panel in (FREEU, MERGE):
        for file in folder(host, panel).rglob("*.json"):
            file.unlink()


def folder(host, panel=FREEU):
    return host.data / "prism" / "presets" / panel.name


def field(page, name, panel=FREEU):
    return pages.field(page, f"{root(panel)}_{name}")


def fill(page, name, text, panel=FREEU):
    """As a user types; gradio 6 takes a text that is there at once for a program's."""
    field(page, name, panel).fill("")
    field(page, name, panel).press_sequentially(text)
    field(page, name, panel).press("Tab")


def press(page, name, panel=FREEU):
    page.click(f"{root(panel)}_preset_{name}")


def choose(page, text, name="preset", panel=FREEU):
    """Takes an entry of a menu, as a user does."""
    field(page, name, panel).click()
    page.locator(f"li[aria-label='{text}']").first.click()
    field(page, name, panel).press("Tab")
    page.wait_for_timeout(1500)  # gradio 6 tells of one choice up to three times, and each answer fills the fields


def wait(page, name, text, panel=FREEU):
    pages.wait(page, f"{root(panel)}_{name}", text)


def waits_for_line(page, text):
    page.locator(f"{root(FREEU)}_preset_told .prism-said", has_text=text).wait_for()


def save(page, name, panel=FREEU, **texts):
    press(page, "save", panel)
    page.wait_for_selector(f"{root(panel)}_preset_name", state="visible")
    for key, text in {"name": name, **texts}.items():
        fill(page, f"preset_{key}", text, panel)
    press(page, "write", panel)
    page.wait_for_selector(f"{root(panel)}_preset_form", state="hidden")


def test_one_is_saved_kept_deleted_and_taken_back(page, host):
    choose(page, BUILT_IN)
    wait(page, "b1", "1.4")
    fill(page, "b1", "1.35")
    wait(page, "preset", CUSTOM)
    save(page, "Mine", author="Ada", notes="for <trees>")
    wait(page, "preset", "Mine")
    (file,) = folder(host).glob("*.json")
    saved = json.loads(file.read_text(encoding="utf8"))
    assert (saved["name"], saved["author"], saved["notes"]) == ("Mine", "Ada", "for <trees>")
    assert FREEU.read({**saved["values"], "preset": CUSTOM}) == {
        **FREEU.defaults(), **FREEU.on, **FREEU.presets[BUILT_IN], "b1": 1.35,
    }  # fmt: skip

    page.reload(wait_until="commit")
    page.wait_for_selector("html:not(.opening) #txt2img_generate")
    ready(page)
    choose(page, "Mine")
    wait(page, "b1", "1.35")
    press(page, "delete")
    waits_for_line(page, 'Deleted: "Mine"')
    wait(page, "preset", CUSTOM)
    assert not file.exists()
    press(page, "undo")
    waits_for_line(page, "Taken back:")
    wait(page, "preset", "Mine")
    assert json.loads(file.read_text(encoding="utf8")) == saved


@pytest.mark.parametrize(
    ("keys", "typed", "taken"),
    [
        (["ControlOrMeta+a", "Delete"], "1.2", "1.2"),
        (["ControlOrMeta+a"], "1.2", "1.2"),
        (["End"], "5", "1.45"),
        (["ControlOrMeta+a"], "9", f"{FREEU['b1'].high:g}"),
    ],
    ids=["emptied first", "written over", "behind what is there", "too large"],
)
def test_a_number_that_is_typed_makes_a_preset_custom(page, keys, typed, taken):
    choose(page, BUILT_IN)
    wait(page, "b1", "1.4")
    for key in keys:
        field(page, "b1").press(key)
    field(page, "b1").press_sequentially(typed)
    field(page, "b1").press("Tab")
    wait(page, "preset", CUSTOM)
    wait(page, "b1", taken)


def test_a_built_in_one_cannot_be_deleted_and_one_without_a_name_is_not_saved(page, host):
    choose(page, BUILT_IN)
    press(page, "delete")
    waits_for_line(page, "built in")
    wait(page, "preset", BUILT_IN)
    press(page, "save")
    wait(page, "preset_name", f"My {BUILT_IN}")
    page.wait_for_function("(text) => document.activeElement.value === text", arg=f"My {BUILT_IN}")
    fill(page, "preset_name", " ")
    press(page, "write")
    waits_for_line(page, "name")
    assert page.locator(f"{root(FREEU)}_preset_form").is_visible()
    press(page, "cancel")
    page.wait_for_selector(f"{root(FREEU)}_preset_form", state="hidden")
    assert not list(folder(host).glob("*.json"))


def test_whoever_types_in_the_form_already_goes_on(page):
    """The form takes the keyboard a moment after it is drawn, later on a busy page."""
    press(page, "save")
    page.wait_for_function(HURRY, arg=f"{root(FREEU)}_preset_author", polling="raf")
    page.keyboard.type("A")
    page.evaluate(UPDATE, f"{root(FREEU)}_preset_save")
    page.wait_for_function("(button) => document.querySelector(button).title", arg=f"{root(FREEU)}_preset_save")
    page.keyboard.type("da")
    wait(page, "preset_author", "Ada")
    assert field(page, "preset_name").input_value() == ""
    press(page, "cancel")


def test_files_are_read_and_handed_over_and_an_unreadable_one_is_named(page, host, tmp_path):
    folder(host).mkdir(parents=True, exist_ok=True)
    (folder(host) / "broken.json").write_text("{", encoding="utf8")
    given = tmp_path / "given.json"
    whole = {"format": "prism.preset", "version": 1, "feature": "freeu", "name": "Given", "values": {"b1": 1.25}}
    given.write_text(json.dumps(whole), encoding="utf8")
    press(page, "files")
    waits_for_line(page, "Left out:")
    page.locator(f"{root(FREEU)}_preset_import input[type=file]").set_input_files(given)
    waits_for_line(page, 'Imported: "Given"')
    choose(page, "Given")
    wait(page, "b1", "1.25")
    press(page, "export")
    link = page.locator(f"{root(FREEU)}_preset_exported a[download], {root(FREEU)}_preset_exported a[href]").first
    with page.expect_download() as handed:
        link.click()
    copy = tmp_path / "copy.json"
    handed.value.save_as(copy)
    assert json.loads(copy.read_text(encoding="utf8"))["values"] == {"b1": 1.25}
    assert (folder(host) / "broken.json").read_text(encoding="utf8") == "{"


def test_a_panel_whose_presets_are_something_else_has_saved_ones_too(page):
    ready(page, MERGE)
    fill(page, "weights", "0.25 1", MERGE)
    save(page, "Rise", MERGE)
    wait(page, "saved", "Rise", MERGE)
    fill(page, "weights", "0.5 1", MERGE)
    wait(page, "saved", CUSTOM, MERGE)
    for change in (lambda: field(page, "weights", MERGE).press("Backspace"), lambda: paint(page)):
        choose(page, "Rise", "saved", MERGE)
        wait(page, "weights", "0.25 1", MERGE)
        change()
        wait(page, "saved", CUSTOM, MERGE)
        assert field(page, "weights", MERGE).input_value() != "0.25 1"


def paint(page):
    """A stroke over the bars of Block Merge."""
    tracks = page.locator(f"{root(MERGE)}_panel .prism-bars .prism-track")
    tracks.first.scroll_into_view_if_needed()
    first, last = (one.bounding_box() for one in (tracks.nth(3), tracks.nth(-4)))
    page.mouse.move(first["x"] + 4, first["y"] + first["height"] - 2)
    page.mouse.down()
    page.mouse.move(last["x"] + 4, last["y"] + 2, steps=4)
    page.mouse.up()


def nameless(page, selector):
    """What the browser tells a screen reader of controls in a place that have no name."""
    session = page.context.new_cdp_session(page)
    node = session.send("DOM.querySelector", {
        "nodeId": session.send("DOM.getDocument")["root"]["nodeId"], "selector": selector,
    })["nodeId"]  # fmt: skip
    found = [
        one
        for one in session.send("Accessibility.queryAXTree", {"nodeId": node})["nodes"]
        if not one["ignored"] and one["role"]["value"] in ROLES
    ]
    assert found, selector
    bare = [one["backendDOMNodeId"] for one in found if not re.search(r"\w", one.get("name", {}).get("value", ""))]
    return [session.send("DOM.getOuterHTML", {"backendNodeId": one})["outerHTML"][:200] for one in bare]


def untold(page, panel):
    """Fields on the page that do not say what they are for."""
    ids = [f"{root(panel)}_{one.name}" for one in panel.fields if one.name != "enabled"]
    return page.evaluate("(ids) => ids.filter((id) => document.querySelector(id)?.title === '')", ids)


def test_every_control_has_a_name_and_every_field_a_tip_and_no_id_is_there_twice(page):
    """Everything open, the forms of presets as well."""
    for panel in PANELS:
        ready(page, panel)
        press(page, "save", panel)
        page.wait_for_selector(f"{root(panel)}_preset_name", state="visible")
        bare = nameless(page, f"{root(panel)}_panel")
        press(page, "files", panel)
        page.wait_for_selector(f"{root(panel)}_preset_export", state="visible")
        bare += nameless(page, f"{root(panel)}_panel")
        assert not (bare or untold(page, panel)), panel.title
    ids = page.evaluate("[...document.querySelectorAll('[id*=_prism_]')].map((one) => one.id)")
    assert len(ids) == len(set(ids)), sorted({one for one in ids if ids.count(one) > 1})
    assert {f"{root(panel)[1:]}_preset_save" for panel in PANELS} <= set(ids)
