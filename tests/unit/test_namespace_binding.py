"""Bound tags on small random text encoders of every family, against transformers called directly."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from checkpoints import Original
from sd_prism.hosts.namespaces.encoders import aside
from sd_prism.namespaces.binding import Binding, embedders_of, find, occurrences
from sd_prism.studio.checkpoint import load
from sd_prism.studio.tokens import Vocabulary

START, END = 49406, 49407
SEAL, SHIP = r"species\:seal", r"studio\:blue ship"
FAMILIES = {"sd1": (1, 2), "sd2": (1, 2), "sdxl": (1,)}  # and the values of clip skip


def noisy(original):
    """Trained encoders have no tensor of zeros; random ones do, and then the mean that emphasis divides by is zero."""
    for text in original.texts:
        for tensor in text.parameters():
            if not tensor.any():
                torch.nn.init.normal_(tensor, std=0.5)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("binding")
    originals = {family: Original(family, change=noisy) for family in FAMILIES}
    return {name: (one, load(one.save(folder / f"{name}.safetensors")).text) for name, one in originals.items()}


@pytest.fixture
def engine(models):
    return models["sd1"][1]


def ids(text):
    return Vocabulary.clip().ids([text])[0]


def bound(engine, texts, strengths, **options):
    binding = Binding(strengths)
    with binding.of(engine.embedders):
        cond = engine.encode(texts, **options)
    assert not binding.unsure
    return cond


# --- by transformers alone


def states(family, original, tokens, clip_skip):
    """The states (77,C) of each encoder before emphasis, from the ids between start and end."""
    for number, clip in enumerate(original.texts):
        pad = END if family == "sd1" or (family, number) == ("sdxl", 0) else 0
        full = torch.tensor([[START, *tokens, END, *[pad] * (75 - len(tokens))]])
        with torch.no_grad():
            out = clip(full, output_hidden_states=True)
        if family == "sdxl":
            yield out.hidden_states[-2][0]
        else:
            layer = 2 if family == "sd2" else clip_skip
            norm = getattr(clip, "text_model", clip).final_layer_norm
            yield norm(out.hidden_states[-layer])[0].detach()


def by_hand(family, original, pieces, strength, clip_skip=1):
    """(text, weight, whether it is a tag) pieces of one chunk as the UNet reads them."""
    tokens = [token for text, _, _ in pieces for token in ids(text)]
    whole = list(states(family, original, tokens, clip_skip))
    for text, _, tag in pieces:
        if tag:
            count = len(ids(text))
            first = 1 + next(i for i in range(len(tokens)) if tokens[i : i + count] == ids(text))
            for z, alone in zip(whole, states(family, original, ids(text), clip_skip)):
                z[first : first + count] = (1 - strength) * z[first : first + count] + strength * alone[1 : 1 + count]
    weights = [1.0, *[weight for text, weight, _ in pieces for _ in ids(text)]]
    weights = torch.tensor([*weights, *[1.0] * (77 - len(weights))])[:, None]
    return torch.cat([z * weights * (z.mean() / (z * weights).mean()) for z in whole], -1)


CASES = {
    "in the middle": (r"a red species\:seal in the sea", ["a red", "*species:seal", "in the sea"]),
    "at the start": (r"species\:seal, in the sea", ["*species:seal", ", in the sea"]),
    "at the end": (r"in the sea, species\:seal", ["in the sea,", "*species:seal"]),
    "alone": (r"species\:seal", ["*species:seal"]),
    "two tags": (r"studio\:blue ship, a species\:seal", ["*studio:blue ship", ", a", "*species:seal"]),
    "with a weight": (r"a red (species\:seal:1.3) in the sea", ["a red", ("*species:seal", 1.3), "in the sea"]),
    "in a group": (
        r"a (red species\:seal, (species:0.8):1.5) sea",
        ["a", ("red", 1.5), ("*species:seal", 1.5), (",", 1.5), ("species", 1.2), "sea"],
    ),
    "less": (r"a [species\:seal] sea", ["a", ("*species:seal", 1 / 1.1), "sea"]),
    "open brackets": (r"a ((species\:seal", ["a", ("*species:seal", 1.21)]),
    "a longer word": (r"a species\:sealion sea", ["a species:sealion sea"]),
    "a backslash less": ("a species:seal sea", ["a species:seal sea"]),
    "a shared token": (r"a cast \(of seals\), sea", ["a", "*cast (of seals", "), sea"]),
    "a number": (r"a year\:\1990, sea", ["a", "*year:1990", ", sea"]),
    "another script": (r"a 种类\:海豹, sea", ["a", "*种类:海豹", ", sea"]),
}
TAGS = [SEAL, SHIP, r"cast \(of seals\)", r"year\:\1990", r"种类\:海豹"]


def pieces_of(parts):
    pairs = [part if isinstance(part, tuple) else (part, 1.0) for part in parts]
    return [(text.removeprefix("*"), weight, text.startswith("*")) for text, weight in pairs]


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize(("text", "parts"), CASES.values(), ids=CASES)
def test_the_rows_of_a_tag_are_those_of_the_tag_alone(text, parts, strength, models):
    original, engine = models["sd1"]
    cond = bound(engine, [text], dict.fromkeys(TAGS, strength))["crossattn"][0]
    assert torch.allclose(cond, by_hand("sd1", original, pieces_of(parts), strength), atol=1e-4)


@pytest.mark.parametrize(("family", "skip"), [(name, skip) for name, skips in FAMILIES.items() for skip in skips])
def test_every_family_is_bound_behind_its_own_layer(family, skip, models):
    original, engine = models[family]
    text, parts = CASES["with a weight"]
    plain = engine.encode([text], clip_skip=skip)
    cond = bound(engine, [text], {SEAL: 0.7}, clip_skip=skip)
    want = by_hand(family, original, pieces_of(parts), 0.7, skip)
    assert torch.allclose(cond["crossattn"][0], want, atol=1e-4)
    assert not torch.allclose(plain["crossattn"][0], want, atol=1e-2)
    assert set(cond) == set(plain)
    if family == "sdxl":
        assert torch.equal(cond["vector"], plain["vector"])


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_without_a_tag_keep_every_bit(family, models):
    engine = models[family][1]
    text = r"a red species\:seal in the sea"
    plain, cond = engine.encode([text])["crossattn"][0], bound(engine, [text], {SEAL: 1.0})["crossattn"][0]
    changed = (plain != cond).any(-1).nonzero().flatten().tolist()
    assert changed == [3, 4, 5]


@pytest.mark.parametrize("strengths", [{}, {SEAL: 0.0}, {SHIP: 1.0}], ids=["no tag", "zero", "another tag"])
def test_nothing_to_bind_changes_no_bit(strengths, models):
    for _, engine in models.values():
        texts = [r"a red species\:seal in the sea", "a (cat:1.2)"]
        plain, cond = engine.encode(texts), bound(engine, texts, strengths)
        assert all(torch.equal(plain[name], cond[name]) for name in plain)


def test_an_encoder_is_given_back_also_after_an_error(engine):
    before = dict(vars(engine.embedders[0]))
    with pytest.raises(ZeroDivisionError), Binding({SEAL: 1.0}).of(engine.embedders):
        assert vars(engine.embedders[0]) != before
        engine.encode([SEAL, 1 / 0])
    assert vars(engine.embedders[0]) == before


def test_a_text_is_bound_alike_in_a_batch_and_one_without_a_tag_is_left_alone(engine):
    texts = [r"a red species\:seal", "a cat", r"studio\:blue ship and species\:seal"]
    both = bound(engine, texts, {SEAL: 1.0, SHIP: 0.5})["crossattn"]
    for text, row in zip(texts, both):
        assert torch.allclose(bound(engine, [text], {SEAL: 1.0, SHIP: 0.5})["crossattn"][0], row, atol=1e-5)
    assert torch.equal(both[1], engine.encode(texts)["crossattn"][1])


# --- chunks of 75 tokens


LONG = {
    "second chunk": ("cat " * 80 + SEAL, [(1, 6), (1, 7), (1, 8)]),
    "across the boundary": ("cat " * 73 + SEAL + " cat", [(0, 74), (0, 75), (1, 1)]),
    "moved behind a comma": ("cat " * 70 + f", a {SEAL} cat cat", [(1, 2), (1, 3), (1, 4)]),
    "after BREAK": (f"cat BREAK a {SEAL}", [(1, 2), (1, 3), (1, 4)]),
    "both chunks": (f"a {SEAL} " + "cat " * 74 + SEAL, [(0, 2), (0, 3), (0, 4), (1, 4), (1, 5), (1, 6)]),
}


@pytest.mark.parametrize(("text", "rows"), LONG.values(), ids=LONG)
def test_a_tag_of_a_long_prompt_is_found_in_its_chunk(text, rows, models):
    original, engine = models["sd1"]
    plain, cond = engine.encode([text])["crossattn"][0], bound(engine, [text], {SEAL: 1.0})["crossattn"][0]
    (alone,) = states("sd1", original, ids("species:seal"), 1)
    assert (plain != cond).any(-1).nonzero().flatten().tolist() == [77 * chunk + row for chunk, row in rows]
    for position, (chunk, row) in enumerate(rows):
        assert torch.allclose(cond[77 * chunk + row], alone[1 + position % 3], atol=1e-4)


def test_a_long_text_beside_a_short_one_pads_it_without_a_tag(engine):
    texts = [SEAL, "cat " * 80 + SEAL]
    plain, cond = engine.encode(texts)["crossattn"], bound(engine, texts, {SEAL: 1.0})["crossattn"]
    assert torch.equal(plain[0, 77:], cond[0, 77:]) and not torch.equal(plain[1, 77:], cond[1, 77:])


# --- embeddings


class Words:
    """Embeddings by the token ids of their names."""

    def __init__(self, **by_name):
        self.by_ids = {tuple(ids(name)): embedding for name, embedding in by_name.items()}

    def find(self, tokens, position):
        for name, embedding in self.by_ids.items():
            if tuple(tokens[position : position + len(name)]) == name:
                return embedding, len(name)
        return None, None

    def used(self, embeddings):
        pass


EMBEDDED = {
    "in the tag": ("a red species\\:shiny, sea", "species\\:shiny", ["a red", "*species:big seal", ", sea"]),
    "before the tag": ("a shiny species\\:seal, sea", SEAL, ["a big seal", "*species:seal", ", sea"]),
    "after the tag": ("a species\\:seal shiny (sea:1.2)", SEAL, ["a", "*species:seal", "big seal", ("sea", 1.2)]),
    "the whole tag": ("a red shiny, sea", "shiny", ["a red", "*big seal", ", sea"]),
}


@pytest.mark.parametrize(("text", "tag", "parts"), EMBEDDED.values(), ids=EMBEDDED)
def test_embeddings_in_and_beside_a_tag_stand_for_their_vectors(text, tag, parts, models, monkeypatch):
    original, engine = models["sd1"]
    own = SimpleNamespace(vec=engine.encoders[0].vectors(ids("big seal")), vectors=2)
    monkeypatch.setattr(engine, "embeddings", Words(shiny=own))
    cond = bound(engine, [text], {tag: 1.0})["crossattn"][0]
    assert torch.allclose(cond, by_hand("sd1", original, pieces_of(parts), 1.0), atol=1e-4)


# --- where it cannot be told


def test_a_name_of_an_embedding_that_reaches_over_the_tags_end_is_left_as_it_is(engine, monkeypatch):
    own = SimpleNamespace(vec=engine.encoders[0].vectors(ids("big fish")), vectors=2)
    monkeypatch.setattr(engine, "embeddings", Words(**{"seal in": own}))
    binding = Binding({SEAL: 1.0, SHIP: 1.0})
    texts = [rf"{SEAL} in the sea, {SHIP}"]
    with binding.of(engine.embedders):
        cond = engine.encode(texts)["crossattn"]
    assert binding.unsure == {SEAL}
    assert torch.equal(cond[0, :8], engine.encode(texts)["crossattn"][0, :8])


def test_a_tag_longer_than_a_chunk_is_left_as_it_is(engine):
    tag = r"title\:" + " cat" * 80
    binding = Binding({tag: 1.0})
    with binding.of(engine.embedders):
        cond = engine.encode([tag])["crossattn"]
    assert binding.unsure == {tag} and torch.equal(cond, engine.encode([tag])["crossattn"])


def test_a_tag_without_weight_has_no_rows_to_bind(engine):
    text = rf"a ({SEAL}:0) sea"
    place = find(engine.embedders[0], text, text.index(SEAL), text.index(SEAL) + len(SEAL))
    assert place is not None and place.rows == ()
    assert torch.equal(bound(engine, [text], {SEAL: 1.0})["crossattn"], engine.encode([text])["crossattn"])


def test_an_encoder_that_reads_other_tokens_than_it_says_is_left_as_it_is(engine, monkeypatch):
    embedder, text = engine.embedders[0], f"a {SEAL}"
    plain = engine.encode([f"a red {SEAL}"])["crossattn"]
    binding = Binding({SEAL: 1.0})
    original = embedder.forward
    monkeypatch.setattr(
        embedder, "forward", lambda texts, *rest: original([f"a red {one[2:]}" for one in texts], *rest)
    )
    with binding.of(engine.embedders):
        cond = engine.encode([text])["crossattn"]
    assert binding.unsure == {SEAL} and torch.equal(cond, plain)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{SEAL}, {SEAL} pup, {SEAL}ion", [SEAL, rf"{SEAL} pup"]),
        (f"x{SEAL}", []),
        (f"({SEAL})({SEAL})", [SEAL, SEAL]),
        ("", []),
    ],
)
def test_tags_are_found_as_whole_words_the_longer_one_first(text, found):
    assert [text[start:end] for start, end in occurrences(text, [SEAL, f"{SEAL} pup"])] == found
    assert occurrences(text, []) == []


def test_embedders_are_those_with_the_hosts_names(engine):
    assert embedders_of(SimpleNamespace(cond_stage_model=engine)) == engine.embedders
    assert embedders_of(SimpleNamespace(cond_stage_model=engine.embedders[0])) == engine.embedders
    for other in (None, object(), SimpleNamespace(embedders=[object()])):
        assert embedders_of(SimpleNamespace(cond_stage_model=other)) == []


def noting(noted):
    return SimpleNamespace(last_extra_generation_params=noted)


PLACES = {
    "a1111": lambda noted: {
        "modules.sd_hijack": SimpleNamespace(model_hijack=SimpleNamespace(extra_generation_params=noted))
    },
    "forge": lambda noted: {
        "backend.args": SimpleNamespace(dynamic_args={}),
        "backend.text_processing.classic_engine": noting(noted),
    },
    "forge neo": lambda noted: {
        "backend.args": SimpleNamespace(dynamic_args=noting(noted)),
        "backend.text_processing.classic_engine": SimpleNamespace(),
    },
}


@pytest.mark.parametrize("host", PLACES)
def test_what_a_host_notes_of_encodings_beside_the_prompts_own_is_taken_back(monkeypatch, host):
    noted = {"Emphasis": "Original"}
    places = PLACES[host](noted)
    monkeypatch.setitem(sys.modules, "modules", SimpleNamespace(sd_hijack=places.get("modules.sd_hijack")))
    for name, place in places.items():
        monkeypatch.setitem(sys.modules, name, place)
    with aside():
        noted |= {"TI": "a", "Emphasis": "None"}
    assert noted == {"Emphasis": "Original"}
