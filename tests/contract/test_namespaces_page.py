"""Tags in the text boxes of every host's page: completion, chips, remarks, weights by keyboard."""

from __future__ import annotations

import json

import pytest
from contract.pages import opened

PANEL = "#script_{}_prism_namespaces_panel"
PROMPT, NEGATIVE = "#txt2img_prompt", "#txt2img_neg_prompt"
POPUP = "#prism_namespaces_popup"
RIVAL = """(shown) => {
  let rival = document.querySelector(".autocompleteParent");
  if (!rival) {
    rival = document.createElement("div");
    rival.className = "autocompleteParent p";
    rival.textContent = "another extension's list";
    document.body.append(rival);
  }
  rival.style.display = shown ? "flex" : "none";
}"""


@pytest.fixture(scope="module")
def one_page(browser, host):
    with opened(browser, host, PANEL.format("txt2img")) as page:
        switch(page, True, "img2img")
        yield page


@pytest.fixture
def page(one_page):
    """A page with empty prompts and the panel on, in both tabs."""
    switch(one_page, True)
    for place in (PROMPT, NEGATIVE):
        box(one_page, place).fill("")
    yield one_page
    one_page.unroute_all()
    one_page.evaluate(RIVAL, False)


def switch(page, on, tab="txt2img"):
    checkbox = f"document.querySelector('{PANEL.format(tab)}-checkbox input')"
    page.evaluate(f"{checkbox}.checked === {json.dumps(on)} || {checkbox}.click()")


def box(page, place=PROMPT):
    return page.locator(f"{place} textarea")


def write(page, text, place=PROMPT):
    """As a user does it, at the end of what stands there."""
    box(page, place).focus()
    page.keyboard.press("End")
    page.keyboard.type(text)


def options(page):
    page.wait_for_selector(POPUP)
    return page.locator(f"{POPUP} .prism-popup-value").all_inner_texts()


def closed(page):
    page.wait_for_selector(POPUP, state="detached")
    return box(page).input_value()


def chips(page, count, place=PROMPT):
    """The chips of a text box as namespace and value, once there are so many."""
    row = f"{place} .prism-chips:not([hidden])"
    page.wait_for_function(f"document.querySelectorAll('{row} .prism-chip').length === {count}")
    return [
        tuple(chip.locator(f".prism-chip-{part}").inner_text() for part in ("name", "value"))
        for chip in page.locator(f"{row} .prism-chip").all()
    ]


def caret(page, before, after=None):
    """Puts the caret behind a text, or selects from there to behind another one."""
    box(page).evaluate(
        """(box, [before, after]) => {
            const start = box.value.indexOf(before) + before.length;
            box.focus();
            box.setSelectionRange(start, after ? box.value.indexOf(after) + after.length : start);
        }""",
        [before, after],
    )


def selected(page):
    return box(page).evaluate("(box) => box.value.slice(box.selectionStart, box.selectionEnd)")


def test_values_are_completed_by_keyboard(page):
    write(page, "a photo, species:sea")
    assert options(page)[:2] == ["seal", "harbor seal"]
    area = box(page)
    assert area.get_attribute("data-prism-completion") == "open"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    active = area.get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}[role=option][aria-selected=true]").inner_text().startswith("harbor seal")
    page.keyboard.press("Enter")
    assert closed(page) == "a photo, species:harbor seal"
    assert area.get_attribute("aria-activedescendant") is None
    write(page, ", a drawing of species:sea")
    options(page)
    page.keyboard.press("Tab")
    assert closed(page).endswith("a drawing of species:seal")
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"


def test_values_are_completed_by_mouse(page):
    write(page, "species:sea")
    options(page)
    page.locator(f"{POPUP} li").nth(1).click()
    assert closed(page) == "species:harbor seal"


def test_a_list_leaves_the_keys_alone_that_are_not_for_it(page):
    write(page, "species:sea")
    options(page)
    page.keyboard.press("Enter")
    assert closed(page) == "species:sea\n"
    write(page, "species:sea")
    options(page)
    page.keyboard.press("Escape")
    closed(page)
    page.keyboard.type("l")
    options(page)
    page.locator(f"{NEGATIVE} textarea").focus()
    assert closed(page) == "species:sea\nspecies:seal"


def test_no_list_opens_for_what_is_no_namespace(page):
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/complete" in request.url else None)
    write(page, "species:se")
    options(page)
    for text in (", re:ze", ", https:"):
        write(page, text)
        closed(page)
        page.wait_for_timeout(200)
    assert page.locator(POPUP).count() == 0 and not [url for url in asked if "species" not in url]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a, b", 'species:"a, b"'),
        ('a "b", c', 'species:"a \\"b\\", c"'),
        ("harbor_seal", "species:harbor seal"),
        ("seal (animal)", 'species:"seal (animal)"'),
        ("re: seal", "species:re: seal"),
    ],
)
def test_a_value_is_quoted_only_where_it_must_be(page, value, written):
    answer = json.dumps([{"value": value, "count": 1, "alias": ""}])
    page.route("**/prism/v1/namespaces/complete?*", lambda route: route.fulfill(body=answer))
    write(page, "species:x")
    options(page)
    page.keyboard.press("Tab")
    assert closed(page) == written
    assert chips(page, 1)[0][0] == "species"


def test_the_list_of_another_extension_goes_first(page):
    page.evaluate(RIVAL, True)
    write(page, "species:se")
    page.wait_for_timeout(300)
    assert page.locator(POPUP).count() == 0
    page.evaluate(RIVAL, False)
    page.keyboard.type("a")
    options(page)
    page.evaluate(RIVAL, True)
    page.evaluate("addEventListener('keydown', (event) => { globalThis.heard = event.key; })")
    page.keyboard.press("ArrowDown")
    closed(page)
    assert page.evaluate("globalThis.heard") == "ArrowDown"


def test_chips_mirror_the_tags_and_select_them(page):
    write(page, "🦭🦭, species:harbor seal, a cat, (studio:dc:1.2), re:zero")
    assert chips(page, 2) == [("species", "harbor seal"), ("studio", "dc")]
    page.locator(f"{PROMPT} .prism-chip").nth(1).click()
    assert selected(page) == "studio:dc"
    write(page, "species:dog", NEGATIVE)
    assert chips(page, 1, NEGATIVE) == [("species", "dog")]


def test_a_mistake_is_told_and_corrected(page):
    write(page, "🦭 cat, speceis:seal, rating:sfae")
    page.wait_for_function("document.querySelectorAll('.prism-lint').length === 2")
    assert 'did you mean "species"' in page.locator(".prism-lint-text").first.inner_text()
    page.locator(".prism-lint-fix").first.click()
    assert box(page).input_value() == "🦭 cat, species:seal, rating:sfae"
    page.wait_for_function("document.querySelectorAll('.prism-lint').length === 1")
    page.locator(".prism-lint-text").click()
    assert selected(page) == "rating:sfae"
    page.locator(".prism-lint-fix").click()
    assert box(page).input_value() == "🦭 cat, species:seal, rating:safe"


def test_nothing_moves_while_one_types(page):
    def top():
        return box(page, NEGATIVE).bounding_box()["y"]

    write(page, "species:seal")
    chips(page, 1)
    before = top()
    page.keyboard.type(", studio:dc, year:1990")
    chips(page, 3)
    assert top() == before
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.wait_for_function(f"!document.querySelector('{PROMPT} .prism-chip')")
    assert top() == before
    box(page, NEGATIVE).focus()
    page.wait_for_selector(f"{PROMPT} .prism-chips", state="hidden")


@pytest.mark.parametrize("place", ["#img2img_prompt", "#img2img_neg_prompt"])
def test_the_other_tab_has_chips_too(page, place):
    box(page, place).evaluate("(box) => { box.value = 'species:seal'; updateInput(box); }")
    page.wait_for_selector(f"{place} .prism-chip", state="attached")


def test_a_weight_by_keyboard_is_for_the_whole_tag(page):
    write(page, "a, species:harbor seal, b")
    caret(page, "species:har")
    page.keyboard.press("Control+ArrowUp")
    assert box(page).input_value() == "a, (species:harbor seal:1.1), b"
    page.keyboard.press("Control+ArrowUp")
    page.keyboard.press("Control+ArrowDown")
    assert box(page).input_value() == "a, (species:harbor seal:1.1), b"
    page.keyboard.press("Control+ArrowDown")
    assert box(page).input_value() == "a, species:harbor seal, b"
    page.keyboard.type("!")
    assert box(page).input_value() == "a, species:har!bor seal, b"
    box(page).fill("(medium:3d render)")
    caret(page, "3d")
    page.keyboard.press("Control+ArrowUp")
    assert box(page).input_value() == "(medium:3d render:1.2)"


def test_elsewhere_the_key_is_the_hosts(page):
    page.evaluate("addEventListener('keydown', (event) => { globalThis.heard = event.key; })")
    write(page, "a cat, species:seal")
    caret(page, "a c")
    page.keyboard.press("Control+ArrowUp")
    assert page.evaluate("globalThis.heard") == "ArrowUp"
    assert "species:seal" in box(page).input_value()


def test_while_it_is_off_it_does_nothing(page):
    asked = []
    write(page, "species:seal")
    chips(page, 1)
    switch(page, False)
    closed(page)
    page.wait_for_selector(f"{PROMPT} .prism-chips", state="hidden")
    page.on("request", lambda request: asked.append(request.url) if "/prism/v1" in request.url else None)
    page.evaluate("addEventListener('keydown', (event) => { globalThis.heard = event.key; })")
    write(page, ", studio:d")
    caret(page, "species:se")
    page.keyboard.press("Control+ArrowUp")
    page.wait_for_timeout(300)
    assert asked == [] and page.locator(POPUP).count() == 0 and page.locator(".prism-chips:visible").count() == 0
    assert page.evaluate("globalThis.heard") == "ArrowUp"


def test_completions_that_come_once_it_is_off_are_not_shown(page):
    held = []
    page.route("**/prism/v1/namespaces/complete?*", lambda route: held.append(route))
    write(page, "studio:d")
    while not held:
        page.wait_for_timeout(50)
    switch(page, False)
    with page.expect_response("**/prism/v1/namespaces/complete?*"):
        held[-1].continue_()
    page.wait_for_timeout(300)
    assert page.locator(POPUP).count() == 0


def test_chips_say_what_a_tag_becomes(browser, host):
    with opened(browser, host, PANEL.format("txt2img")) as page:
        switch(page, True)
        dialect = page.locator("#script_txt2img_prism_namespaces_dialect input")
        dialect.fill("Pony")
        dialect.press("Enter")
        write(page, "score:9, rating:safe, a cat")
        chips(page, 2)
        page.wait_for_function(f"document.querySelector('{PROMPT} .prism-chip-said')?.innerText.startsWith('score_9')")


def test_without_answers_a_text_stays_a_text(browser, host):
    with opened(browser, host, PANEL.format("txt2img")) as page:
        page.route("**/prism/v1/namespaces/*", lambda route: route.fulfill(status=404, body="{}"))
        switch(page, True)
        with page.expect_response("**/prism/v1/namespaces/render"):
            write(page, "species:seal, a cat")
        assert box(page).input_value() == "species:seal, a cat" and page.locator(".prism-chips:visible").count() == 0
