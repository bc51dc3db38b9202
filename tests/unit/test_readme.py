"""What the README says of the settings is what the declarations say."""

import re
from pathlib import Path

import pytest
from sd_prism.namespaces import render
from sd_prism.namespaces.dialects import DIALECTS
from sd_prism.namespaces.escape import plain
from sd_prism.settings import PANELS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)
def test_the_table_of_settings_is_the_declaration(panel):
    found = re.search(rf"<!-- settings: {panel.name} -->\n(.*?)\n?<!-- /settings -->", README, re.S)
    assert found, f"the README has no table for {panel.title}"
    assert found.group(1) == panel.markdown()


def test_the_table_of_dialects_is_what_they_say():
    example, table = re.search(
        r"What `(.*)` becomes .*?<!-- dialects -->\n(.*?)<!-- /dialects -->", README, re.S
    ).groups()
    said = [
        (dialect.title, plain(render(example, dialect=name, target="studio"))) for name, dialect in DIALECTS.items()
    ]
    assert re.findall(r"^\| (.*?) \| (.*) \|$", table, re.M)[1:] == said


def test_every_local_picture_exists():
    for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_the_house_in_the_readme_names_real_rooms():
    house = README.split("## The house")[1].split("```")[1]
    for name in re.findall(r"^  (\w+/|\w+\.py)\s", house, re.M):
        assert (ROOT / "lib" / "sd_prism" / name).exists(), name
