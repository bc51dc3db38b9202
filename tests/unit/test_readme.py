"""What the README and the panels' pages say is what the declarations say, and their examples are understood."""

import json
import re
import shlex
from pathlib import Path

import pytest
from sd_prism import infotext
from sd_prism.cards import Preset
from sd_prism.cards.card import Card
from sd_prism.namespaces import render
from sd_prism.namespaces.dialects import DIALECTS
from sd_prism.namespaces.escape import plain
from sd_prism.settings import PANELS
from sd_prism.studio.cli import parser

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
TITLED = {panel.title: panel for panel in PANELS}
LINK = re.compile(r"(!?)\[[^\]]*(?:\[[^\]]*\][^\]]*)?\]\(([^)]+)\)")


def page_of(panel):
    return ROOT / "docs" / f"{panel.name}.md"


def text_of(file):
    return file.read_text(encoding="utf-8")


def anchors(text):
    """The headings as their web pages name them."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def fenced(text, kind=""):
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


PAGES = [README, *map(page_of, PANELS)]
each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@each_panel
def test_the_table_of_settings_is_the_declaration(panel):
    found = re.search(r"<!-- settings -->\n(.*?)\n?<!-- /settings -->", text_of(page_of(panel)), re.S)
    assert found, f"{page_of(panel)} has no table of settings"
    assert found.group(1) == panel.markdown()


@each_panel
def test_the_readme_links_every_panels_page_which_shows_it_in_both_hosts(panel):
    assert f"[{panel.title}](docs/{panel.name}.md)" in text_of(README)
    for host in ("studio", "a1111"):
        assert f"(screens/{panel.name}-{host}.png)" in text_of(page_of(panel))


def test_the_table_of_dialects_is_what_they_say():
    example, table = re.search(
        r"What `(.*)` becomes .*?<!-- dialects -->\n(.*?)<!-- /dialects -->",
        text_of(ROOT / "docs" / "namespaces.md"),
        re.S,
    ).groups()
    said = [
        (dialect.title, plain(render(example, dialect=name, target="studio"))) for name, dialect in DIALECTS.items()
    ]
    assert re.findall(r"^\| (.*?) \| (.*) \|$", table, re.M)[1:] == said


@each_page
def test_every_local_picture_and_link_leads_somewhere(page):
    for _, target in LINK.findall(text_of(page)):
        path, _, anchor = target.partition("#")
        if "://" not in target:
            assert (page.parent / path).is_file(), target
            assert not anchor or anchor in anchors(text_of(page.parent / path)), target


@each_panel
def test_the_examples_of_a_page_are_understood(panel):
    """Requests, files of cards, and what stands in a picture."""
    text = text_of(page_of(panel))
    for example in map(json.loads, fenced(text, "json")):
        if "feature" in example:
            assert Card.of(Preset.of_json(example, page_of(panel).name)).values
        else:
            ((title, asked),) = example["alwayson_scripts"].items()
            assert title == panel.title and panel.read(asked["args"]) != panel.defaults()
    for example in fenced(text, "infotext"):
        title, _, value = example.strip().partition(": ")
        assert title == panel.title and infotext.read(panel, value) != panel.read(panel.off)
    for title, label in re.findall(r"`\[([\w ]+)\] ([^`]+)`", text):
        assert f"[{title}] {label}" in dict(TITLED[title].axes())


@each_page
def test_every_command_is_one(page):
    commands = re.findall(r"^python prism\.py (.*)$", "\n".join(fenced(text_of(page))).replace("\\\n", ""), re.M)
    for command in commands:
        known, unknown = parser().parse_known_args(shlex.split(command, comments=True) or ["studio"])
        assert known.command and not unknown, command


def test_the_house_in_the_readme_names_real_rooms():
    house = text_of(README).split("## The house")[1].split("```")[1]
    for name in re.findall(r"^  (\w+/|\w+\.py)\s", house, re.M):
        assert (ROOT / "lib" / "sd_prism" / name).exists(), name
