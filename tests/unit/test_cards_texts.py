"""Parameter texts of pictures that were drawn with a card give the card's settings again."""

import sys

import pytest
from sd_prism import infotext
from sd_prism.cards.card import HOST, SET, cards_of, of_infotext
from sd_prism.cards.change import applied, changes
from sd_prism.cards.shipped import presets

SHIPPED = cards_of(presets("card"))


@pytest.fixture(scope="module")
def parse(tmp_path_factory):
    from sd_prism.studio import host

    host.open_host(data_dir=tmp_path_factory.mktemp("data"), builtin=False)
    from modules import infotext_utils

    yield infotext_utils.parse_generation_parameters
    host.close_host()
    assert "modules" not in sys.modules


def page(**given):
    """What stands on a page that was just opened."""
    found = {f"host.{one.name}": one.default for one in HOST} | {"prompt": "", "negative": ""}
    for panel in SET:
        found |= {f"{panel.name}.{name}": value for name, value in panel.read(panel.off).items()}
    return found | given


def written(current):
    """The parameter text of a picture that is drawn with these settings."""
    host = {one.key: current[f"host.{one.name}"] for one in HOST}
    size = f"{host.pop('Size-1')}x{host.pop('Size-2')}"
    parts = [f"{key}: {value}" for key, value in {**host, "Size": size}.items() if value != ""]
    for panel in SET:
        values = {name: current[f"{panel.name}.{name}"] for name in panel.names}
        if values.get("enabled", True):
            parts.append(f"{panel.title}: {infotext.dumps(panel, values)}")
    return f"{current['prompt']}\nNegative prompt: {current['negative']}\n{', '.join(parts)}"


def read(params):
    """What the page has once this is pasted."""
    found = page(prompt=params["Prompt"], negative=params["Negative prompt"]) | of_infotext(params)
    for panel in SET:
        values = infotext.loads(panel, params.get(panel.title))
        found |= {f"{panel.name}.{name}": value for name, value in values.items()}
    return found


@pytest.mark.parametrize("card", SHIPPED, ids=lambda card: card.name)
def test_pasted_nothing_is_left_to_change(parse, card):
    before = page(prompt="a cat", negative="fog")
    assert changes(card, before)
    assert changes(card, read(parse(written(before | applied(card, before))))) == []
