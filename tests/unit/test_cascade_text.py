"""The text encoder against transformers' own on random weights."""

import pytest
import torch
from sd_prism.cascade.config import TextConfig
from sd_prism.cascade.text import END, START, TextEncoder, mask_of
from sd_prism.errors import OutOfRange, PrismError

WIDTH, LAYERS = 64, 3


@pytest.fixture(params=["gelu", "quick_gelu"])
def pair(request):
    """Transformers' model and ours with the same weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=END + 1,
        hidden_size=WIDTH,
        intermediate_size=96,
        projection_dim=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        hidden_act=request.param,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=END,
    )
    theirs = transformers.CLIPTextModelWithProjection(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.normal_(std=0.3)
    state = {name: one for name, one in theirs.state_dict().items() if "position_ids" not in name}
    metadata = {"prism.cascade.text_head_width": "16", "prism.cascade.text_activation": request.param}
    ours = TextEncoder(TextConfig.of({name: one.shape for name, one in state.items()}, metadata))
    ours.load_state_dict(state, strict=True)
    return theirs, ours


def chunks(*lengths):
    """Chunks of 77 ids with so many random words."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.full((len(lengths), 77), END)
    for row, length in zip(ids, lengths):
        row[0] = START
        row[1 : 1 + length] = torch.randint(0, START, (length,), generator=generator)
    return ids


@torch.no_grad()
@pytest.mark.parametrize("masked", [True, False])
def test_states_before_the_last_norm_and_pooled_text_equal_transformers(pair, masked):
    theirs, ours = pair
    ids = chunks(5, 75, 0)
    mask = mask_of(ids) if masked else None
    taken = {}
    hook = theirs.text_model.final_layer_norm.register_forward_pre_hook(lambda _, given: taken.update(last=given[0]))
    expected = theirs(ids, attention_mask=mask if mask is None else mask.long(), output_hidden_states=True)
    hook.remove()
    hidden, pooled = ours(ids, mask)
    assert (hidden - taken["last"]).abs().max() < 1e-5 * taken["last"].abs().max()
    assert (pooled - expected.text_embeds).abs().max() < 1e-5 * expected.text_embeds.abs().max()
    for skip in range(2, LAYERS + 1):
        skipped, same = ours(ids, mask, clip_skip=skip)
        state = expected.hidden_states[-skip]
        assert (skipped - state).abs().max() < 1e-5 * state.abs().max()
        assert torch.equal(same, pooled)


def test_the_mask_ends_with_the_first_end_of_each_chunk():
    assert mask_of(chunks(5, 75, 0)).sum(1).tolist() == [7, 77, 2]


@torch.no_grad()
def test_the_mask_changes_the_filling_only(pair):
    ids = chunks(5)
    masked, plain = (pair[1](ids, mask)[0] for mask in (mask_of(ids), None))
    assert torch.allclose(masked[:, :7], plain[:, :7], atol=1e-5)
    assert not torch.allclose(masked[:, 7:], plain[:, 7:], atol=1e-2)


@torch.no_grad()
def test_given_embeddings_stand_for_the_tokens(pair):
    ids = chunks(5)
    vectors = pair[1].text_model.embeddings.token_embedding(ids)
    assert torch.equal(pair[1](ids, embeddings=vectors)[0], pair[1](ids)[0])
    assert not torch.equal(pair[1](ids, embeddings=vectors * 0.5)[0], pair[1](ids)[0])


def test_more_layers_than_there_are_cannot_be_skipped(pair):
    with pytest.raises(OutOfRange, match="clip skip is 4; it must lie between 1 and 3"):
        pair[1](chunks(5), clip_skip=LAYERS + 1)


def test_the_published_build_has_its_number_of_weights():
    with torch.device("meta"):
        encoder = TextEncoder(TextConfig())
    assert sum(one.numel() for one in encoder.parameters()) == 694_659_840
    assert TextConfig.of({name: one.shape for name, one in encoder.state_dict().items()}) == TextConfig()


def test_a_missing_weight_is_named():
    with pytest.raises(PrismError, match=r'needs "text_projection.weight", which this file does not have'):
        with torch.device("meta"):
            shapes = {name: one.shape for name, one in TextEncoder(TextConfig(layers=1)).state_dict().items()}
        TextConfig.of({name: shape for name, shape in shapes.items() if name != "text_projection.weight"})
