"""Files of Stable Cascade: every layout gives the same weights, headers alone tell what a file is."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from sd_prism.cascade import formats, weights
from sd_prism.cascade.formats import inspect, load, pair, role_of, state
from sd_prism.cascade.report import report
from sd_prism.errors import PrismError, UnknownName
from sd_prism.merge import ldm_keys
from sd_prism.studio import cli
from sd_prism.studio import header as studio
from unit import cascade_files as files

MAIN, DECODER = ("stage_c", "text"), ("stage_b", "stage_a")


@pytest.fixture(scope="module")
def states():
    """The canonical weights of every part; the text encoder has few tokens, so that files are small."""
    sizes = {"text": {"vocabulary": 40}}
    return {part: files.random_state(part, i, **sizes.get(part, {})) for i, part in enumerate(files.SHAPES)}


def chosen(states, *parts):
    return {part: states[part] for part in parts}


def bare(folder, states, text_name=""):
    file = files.write(folder / "sote.safetensors", files.in_proj(states["stage_c"]))
    if text_name:
        files.write(folder / text_name, states["text"])
    return file


def all_in_one(folder, states, packed):
    return files.write(folder / "main.safetensors", files.main_tensors(chosen(states, *MAIN), packed))


def decoder(folder, states, packed, *more):
    return files.write(folder / "decoder.safetensors", files.decoder_tensors(chosen(states, *DECODER, *more), packed))


LAYOUTS = {
    "main with to_q": (MAIN, "all-in-one", lambda folder, states: all_in_one(folder, states, False)),
    "main with in_proj": (MAIN, "all-in-one", lambda folder, states: all_in_one(folder, states, True)),
    "decoder with to_q": (DECODER, "all-in-one", lambda folder, states: decoder(folder, states, False)),
    "decoder with in_proj": (DECODER, "all-in-one", lambda folder, states: decoder(folder, states, True)),
    "bare stage C": (("stage_c",), "bare", bare),
    "bare stage A": (
        ("stage_a",),
        "bare",
        lambda folder, states: files.write(folder / "a.safetensors", states["stage_a"]),
    ),
    "kohya's text encoder": (
        MAIN,
        "sidecar",
        lambda folder, states: bare(folder, states, "sote_text_model.safetensors"),
    ),
    "OneTrainer's text encoder": (
        MAIN,
        "sidecar",
        lambda folder, states: bare(folder, states, "sote_text_encoder.safetensors"),
    ),
    "diffusers prior": (
        MAIN,
        "diffusers",
        lambda folder, states: files.diffusers_folder(folder, chosen(states, *MAIN)),
    ),
    "diffusers decoder": (
        DECODER,
        "diffusers",
        lambda folder, states: files.diffusers_folder(folder, chosen(states, *DECODER, "text")),
    ),
    "diffusers in shards": (
        MAIN,
        "diffusers",
        lambda folder, states: files.diffusers_folder(folder, chosen(states, *MAIN), shards=3),
    ),
    "index of shards": (
        MAIN,
        "all-in-one",
        lambda folder, states: files.write_index(folder, "main", files.main_tensors(chosen(states, *MAIN)), 3),
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_weights(name, states, tmp_path):
    parts, layout, write = LAYOUTS[name]
    path = write(tmp_path, states)
    file = inspect(path)
    assert file.layout == layout and set(parts) <= set(file.parts) and file.unknown == ()
    assert file.role == {"stage_c": "main", "stage_b": "decoder", "stage_a": "stage_a"}[parts[0]]
    for part in parts:
        found = state(path, part)
        assert found.keys() == states[part].keys()
        assert all(torch.equal(found[key], value) for key, value in states[part].items())
        assert {key: tuple(value.shape) for key, value in found.items()} == dict(file.parts[part].shapes)


def test_a_loaded_network_has_the_files_weights(states, tmp_path):
    path = all_in_one(tmp_path, states, True)
    network = load(path, "stage_c", dtype=torch.float64)
    assert not network.training and not any(one.requires_grad or one.is_meta for one in network.parameters())
    assert all(torch.equal(value, states["stage_c"][key].double()) for key, value in network.state_dict().items())


def test_every_part_is_loaded(tmp_path):
    main, second = files.tiny_main(tmp_path / "m.safetensors"), files.tiny_decoder(tmp_path / "d.safetensors")
    for file, parts in ((main, ("stage_c", "text", "effnet", "previewer")), (second, ("stage_b", "stage_a"))):
        for part in parts:
            network = load(file, part)
            assert not any(one.is_meta for one in (*network.parameters(), *network.buffers())), part


def test_a_network_is_filled_while_a_webui_has_replaced_the_modules_own_ways(states, tmp_path, monkeypatch):
    def stolen(*args, **options):
        raise AssertionError("a webui converts weights here")

    monkeypatch.setattr(torch.nn.Module, "load_state_dict", stolen)
    monkeypatch.setattr(torch.nn.Module, "_load_from_state_dict", stolen)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *args, **options: None)
    network = load(all_in_one(tmp_path, states, False), "stage_c", dtype=torch.bfloat16)
    assert network.get_parameter("clf.1.weight").dtype == torch.bfloat16


def test_only_the_tensors_of_a_part_are_read(states, tmp_path, monkeypatch):
    """The text encoder that decoder files have beside is another copy of the main file's."""
    read = []

    class Watched:
        def __init__(self, path, framework):
            self.file = safe_open(path, framework)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def get_tensor(self, name):
            read.append(name)
            return self.file.get_tensor(name)

    monkeypatch.setattr(weights, "safe_open", Watched)
    file = decoder(tmp_path, states, True, "text")
    tensors = files.decoder_tensors(chosen(states, *DECODER, "text"), True)
    assert inspect(file).parts["text"].shapes and read == []
    for part in DECODER:
        load(file, part)
    assert sorted(read) == sorted(name for name in tensors if not name.startswith("text_encoder."))


def test_nothing_but_the_header_of_a_large_file_is_read(tmp_path, monkeypatch):
    shapes = files.stage_c_shapes(2048, (8, 24), 2048, 1280, 768)
    tensors = {f"model.diffusion_model.{name}": shape for name, shape in shapes.items()}
    for name, shape in files.text_shapes(1280, 32).items():
        tensors[f"text_encoder.clip_g.transformer.{name}"] = shape
    path = files.write_sparse(tmp_path / "main.safetensors", tensors)
    assert path.stat().st_size > 8.5e9
    read, real = [], Path.open

    def opened(self, *args, **options):
        stream = real(self, *args, **options)
        take = stream.read
        stream_of = type("Counted", (), {"__enter__": lambda s: s, "__exit__": lambda s, *e: stream.close()})()
        stream_of.read = lambda count: read.append(count) or take(count)
        stream_of.fileno = stream.fileno
        return stream_of

    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(weights, "safe_open", None)
    file = inspect(path)
    with real(path, "rb") as stream:
        assert sum(read) == 8 + int.from_bytes(stream.read(8), "little")
    assert file.parts["stage_c"].variant == "full" and file.parts["stage_c"].dtype == "float16"
    assert file.parts["stage_c"].bytes == 2 * 3_589_103_632
    assert [part.problems() for part in file.parts.values()] == ["", ""]


@pytest.mark.parametrize(
    ("part", "shapes", "variant"),
    [
        ("stage_c", files.stage_c_shapes(1536, (4, 12), 1536, 1280, 768), "lite"),
        ("stage_b", files.stage_b_shapes((320, 640, 1280, 1280), (2, 6, 28, 6), (3, 3, 2, 2), 1280, 1280), "full"),
        ("stage_b", files.stage_b_shapes((320, 576, 1152, 1152), (2, 4, 14, 4), (2, 2, 2, 2), 1280, 1280), "lite"),
        ("stage_c", files.stage_c_shapes(), "16x16"),
        ("stage_a", files.stage_a_shapes((192, 384), 12, 8192), ""),
    ],
)
def test_published_builds_have_their_names(part, shapes, variant, tmp_path):
    file = inspect(files.write_sparse(tmp_path / "x.safetensors", shapes))
    assert (list(file.parts), file.parts[part].variant) == ([part], variant)
    if variant in ("full", "lite"):
        assert file.parts[part].problems() == ""


def test_missing_unknown_and_misshapen_weights_are_told_by_part(states, tmp_path):
    tensors = files.main_tensors(chosen(states, *MAIN))
    del tensors["model.diffusion_model.up_blocks.0.1.mapper.weight"]
    tensors["model.diffusion_model.extra.weight"] = torch.zeros(1)
    tensors["model.diffusion_model.clip_img_mapper.bias"] = torch.zeros(7)
    tensors["other.weight"] = torch.zeros(1)
    path = files.write(tmp_path / "m.safetensors", tensors)
    file = inspect(path)
    assert file.unknown == ("other.weight",)
    assert file.parts["text"].problems() == ""
    told = file.parts["stage_c"].problems()
    assert told == (
        "stage C: 1 missing (up_blocks.0.1.mapper.weight); 1 unknown (extra.weight); "
        "1 of another shape (clip_img_mapper.bias)"
    )
    with pytest.raises(PrismError, match=r"m\.safetensors cannot be loaded\. stage C: 1 missing \(up_blocks"):
        load(path, "stage_c")
    load(path, "text")
    with pytest.raises(PrismError, match=r"does not have stage B; it has stage C, the text encoder"):
        load(path, "stage_b")
    with pytest.raises(UnknownName, match="stage_c"):
        load(path, "stage_d")


def test_weights_without_sides_are_told(states, tmp_path):
    flat = {name: torch.zeros(()) for name in files.main_tensors(chosen(states, *MAIN), True)}
    main = files.write(tmp_path / "main.safetensors", flat)
    second = files.write(
        tmp_path / "b.safetensors", {name: torch.zeros(()) for name in files.in_proj(states["stage_b"])}
    )
    for path, part in ((main, "stage_c"), (main, "text"), (second, "stage_b")):
        assert report(path)["problems"]
        with pytest.raises(PrismError):
            load(path, part)


def test_a_part_without_what_tells_its_build_is_refused(states, tmp_path):
    for part, name in (
        ("stage_c", "down_blocks.0.0.depthwise.weight"),
        ("stage_a", "up_blocks.1.gammas"),
        ("text", "text_projection.weight"),
        ("previewer", "blocks.3.weight"),
        ("effnet", "backbone.3.0.block.0.0.weight"),
    ):
        path = files.write(tmp_path / f"{part}.safetensors", {k: v for k, v in states[part].items() if k != name})
        with pytest.raises(PrismError):
            load(path, part)


def test_what_is_no_cascade_file_is_refused(states, tmp_path):
    whole = all_in_one(tmp_path, states, False).read_bytes()
    for name, content, says in (
        ("cut", whole[:-100], "its header announces"),
        ("short", whole[:20], "cut off"),
        ("empty", b"", "is no .safetensors file"),
        ("zip", b"PK\x03\x04" + whole, "is a pickle"),
        ("pickle", pickle.dumps({"clf.1.weight": 1}), "is a pickle"),
        ("header", whole[:8] + b"[" + whole[9:], "has a damaged header"),
    ):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(PrismError, match=says):
            inspect(path)
    (tmp_path / "old.ckpt").write_bytes(whole)
    with pytest.raises(PrismError, match="is a pickle"):
        inspect(tmp_path / "old.ckpt")
    for path in (tmp_path / "none.safetensors", tmp_path / ("x" * 5000), "a\0b"):
        with pytest.raises(PrismError, match="does not exist"):
            inspect(path)
    with pytest.raises(PrismError, match="is no file of Stable Cascade"):
        inspect(files.write(tmp_path / "other.safetensors", {"x": torch.ones(1)}))
    (tmp_path / "folder").mkdir()
    with pytest.raises(PrismError, match="is no diffusers folder of Stable Cascade"):
        inspect(tmp_path / "folder")


def test_a_damaged_index_and_a_missing_shard_are_told(states, tmp_path):
    index = files.write_index(tmp_path, "main", states["stage_c"])
    (tmp_path / "main-00002-of-00002.safetensors").unlink()
    with pytest.raises(PrismError, match=r"main-00002-of-00002\.safetensors does not exist"):
        inspect(index)
    for text in ("{", "[]", json.dumps({"weight_map": {"x": "../other.safetensors"}}), json.dumps({"weight_map": 1})):
        index.write_text(text)
        with pytest.raises(PrismError, match="is damaged"):
            inspect(index)
    index.unlink()
    with pytest.raises(PrismError, match="does not exist"):
        inspect(index)


def test_parts_beside_a_file_are_found_and_a_damaged_one_is_only_told(states, tmp_path):
    main = bare(tmp_path, states, "sote_text_model.safetensors")
    files.write(tmp_path / "previewer.safetensors", states["previewer"])
    (tmp_path / "effnet_encoder.safetensors").write_bytes(b"half of it")
    file = inspect(main)
    assert list(file.parts) == ["stage_c", "text", "previewer"]
    assert [one.name for one in file.parts["text"].files] == ["sote_text_model.safetensors"]
    assert "effnet_encoder.safetensors" in file.notes[0]
    load(file, "previewer")
    with pytest.raises(PrismError, match=r"does not have the picture encoder.*effnet_encoder\.safetensors"):
        file.part("effnet")
    shutil.move(tmp_path / "sote_text_model.safetensors", tmp_path / "another_text_model.safetensors")
    assert "text" not in inspect(main).parts


def test_a_text_encoder_of_another_width_is_not_taken(states, tmp_path):
    main = bare(tmp_path, states)
    wide = files.random_state("text", vocabulary=40, width=2 * files.TEXT)
    files.write(tmp_path / "sote_text_model.safetensors", wide)
    assert inspect(main).layout == "bare" and list(inspect(main).parts) == ["stage_c"]


def test_a_table_of_some_tokens_becomes_a_whole_one(states, tmp_path):
    ids = torch.randperm(files.VOCABULARY, generator=torch.Generator().manual_seed(0))[:40]
    tensors = files.main_tensors(chosen(states, *MAIN)) | {"prism.token_ids": ids.int()}
    path = files.write(tmp_path / "m.safetensors", tensors)
    name = "text_model.embeddings.token_embedding.weight"
    table, rows = state(path, "text")[name], states["text"][name]
    assert inspect(path).unknown == () and inspect(path).parts["text"].problems() == ""
    assert table.shape == (files.VOCABULARY, files.TEXT) and torch.equal(table[ids], rows)
    assert torch.count_nonzero(table) == torch.count_nonzero(rows)
    files.write(path, tensors | {"prism.token_ids": ids[:-1].int()})
    with pytest.raises(PrismError, match="39 ids for 40 rows"):
        state(path, "text")


def test_numbers_go_straight_from_the_files_format_to_the_wanted_one(states, tmp_path):
    tiny = {key: torch.full_like(value, 1e-30, dtype=torch.bfloat16) for key, value in states["stage_c"].items()}
    path = files.write(tmp_path / "c.safetensors", tiny)
    assert state(path, "stage_c")["clf.1.weight"].dtype == torch.bfloat16
    wide = state(path, "stage_c", torch.float32)
    assert all(torch.equal(value, tiny[key].float()) and value.max() > 0 for key, value in wide.items())
    previewer = state(files.write(tmp_path / "p.safetensors", states["previewer"]), "previewer", torch.float16)
    assert previewer["blocks.2.num_batches_tracked"].dtype == torch.int64
    assert previewer["blocks.2.running_var"].dtype == torch.float16


@pytest.mark.parametrize(
    ("part", "stored", "variant", "old_card", "new_card"),
    [
        ("stage_c", "float16", 2048, "float16", "float16"),
        ("stage_c", "bfloat16", 2048, "float32", "bfloat16"),
        ("stage_c", "float32", 2048, "float32", "bfloat16"),
        ("stage_c", "bfloat16", 1536, "float32", "bfloat16"),
        ("stage_c", "float32", 1536, "float16", "float16"),
        ("stage_b", "bfloat16", 0, "float32", "bfloat16"),
        ("stage_b", "float32", 0, "float16", "float16"),
        ("text", "float16", 0, "float16", "float16"),
    ],
)
def test_the_format_of_numbers_never_passes_through_fp16(part, stored, variant, old_card, new_card, monkeypatch):
    shapes = {f"down_blocks.{level}.0.depthwise.weight": (variant, 1, 3, 3) for level in range(2)}
    found = formats.Part(part, stored, 0, shapes, {})
    for supported, expected in ((False, old_card), (True, new_card)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *args, answer=supported: answer)
        assert formats.dtype_for(found, None, "cuda") == getattr(torch, expected)
        assert formats.dtype_for(found, "Automatic", "cuda") == getattr(torch, expected)
    assert formats.dtype_for(found, device="cpu") == torch.float32
    assert formats.dtype_for(found, "bf16", "cuda") == torch.bfloat16
    assert formats.dtype_for(found, torch.float64) == torch.float64
    with pytest.raises(UnknownName, match="fp16"):
        formats.dtype_for(found, "fp8", "cuda")


def test_names_alone_tell_the_role(states):
    assert role_of(files.main_tensors(chosen(states, *MAIN))) == "main"
    assert role_of(files.decoder_tensors(chosen(states, *DECODER), True)) == "decoder"
    for part in ("stage_a", "effnet", "previewer"):
        assert role_of(states[part]) == part
    both = [f"encoder.{name}" for name in states["effnet"]] + [f"previewer.{name}" for name in states["previewer"]]
    assert role_of(both) == role_of([*states["effnet"], "projections.0.0.weight"]) == "effnet"
    assert role_of(["backbone.0.0.weight", "projections.0.0.weight"]) == "controlnet"
    for others in (
        states["text"],
        ["encoder.conv_in.weight", "decoder.conv_in.weight"],
        [ldm_keys.UNET + "input_blocks.0.0.weight", ldm_keys.VAE + "encoder.conv_in.weight"],
        ["lora_prior_unet_clf_1.lora_down.weight"],
        [],
    ):
        assert role_of(others) == ""


NAMES = [
    ("sotediffusion-wuerstchen3.safetensors", "sotediffusion-wuerstchen3-decoder.safetensors", ["stage_b.safetensors"]),
    (
        "sotediffusionWuerstchen3_v2.safetensors",
        "sotediffusionWuerstchen3_v2Decoder.safetensors",
        ["sotediffusionWuerstchen3_alpha1Decoder.safetensors", "other/resonance_decoder.safetensors"],
    ),
    (
        "sotediffusion-wuerstchen3-alpha3-main-fp16.safetensors",
        "sotediffusion-wuerstchen3-alpha3-decoder-fp16.safetensors",
        ["sotediffusion-wuerstchen3-alpha2-decoder-fp16.safetensors"],
    ),
    ("stable_cascade_stage_c.safetensors", "stable_cascade_stage_b.safetensors", ["sote-decoder.safetensors"]),
    ("stage_c_bf16.safetensors", "stage_b_bf16.safetensors", ["stage_b.safetensors", "stage_b_lite_bf16.safetensors"]),
    ("stage_c_lite.safetensors", "stage_b_lite.safetensors", ["stage_b.safetensors"]),
    ("sote/main.safetensors", "sote/decoder.safetensors", ["other/decoder.safetensors"]),
    ("sote.safetensors", "decoders/sote-decoder.safetensors", ["decoders/other-decoder.safetensors"]),
    ("a/one.safetensors", "a/two.safetensors", ["a/near/three.safetensors", "b/four.safetensors"]),
    ("a/five.safetensors", "a/near/three.safetensors", ["b/four.safetensors"]),
    ("anything.safetensors", "far/away/b.safetensors", []),
]


@pytest.fixture
def lay(states, tmp_path):
    """Makes files of one kind under several names."""
    whole = {
        "main": files.write(tmp_path / "masters" / "main", states["stage_c"]),
        "decoder": files.write(tmp_path / "masters" / "decoder", states["stage_b"]),
    }

    def laid(kind, *names):
        paths = [tmp_path / "models" / name for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(whole[kind], path)
        return paths

    return laid


@pytest.mark.parametrize(("main", "decoder", "others"), NAMES, ids=[name[0] for name in NAMES])
def test_the_decoder_is_found_by_folder_and_name(main, decoder, others, lay):
    (path,), (wanted, *rest) = lay("main", main), lay("decoder", decoder, *others)
    for candidates in ([wanted, *rest, path], [path, *rest, wanted]):
        assert pair(path, candidates) == wanted
        assert pair(str(path), [str(one) for one in candidates]) == str(wanted)


def test_decoders_that_fit_equally_well_are_listed(lay):
    (main,) = lay("main", "sote-v2.safetensors")
    candidates = lay("decoder", "sote-v1-decoder.safetensors", "sote-v3-decoder.safetensors")
    with pytest.raises(PrismError, match=r"sote-v1-decoder\.safetensors, sote-v3-decoder\.safetensors; choose"):
        pair(main, candidates)
    assert pair(main, [main]) is None and pair(main, []) is None


def test_a_decoder_of_other_widths_and_a_damaged_one_are_passed_over(lay, tmp_path):
    (main,), (fitting,) = lay("main", "sote.safetensors"), lay("decoder", "other.safetensors")
    narrow = files.write(fitting.with_name("sote-decoder.safetensors"), files.random_state("stage_b", text=16))
    damaged = fitting.with_name("sote_decoder.safetensors")
    damaged.write_bytes(b"nothing")
    assert pair(main, [narrow, damaged, fitting, fitting.with_name("none.safetensors")]) == fitting


def test_inspect_tells_what_a_file_holds(states, tmp_path, capsys):
    main, second = all_in_one(tmp_path, states, True), decoder(tmp_path, states, False, "text")
    assert cli.main(["inspect", str(main)]) == 0
    told = capsys.readouterr().out
    for line in ("family: cascade", "layout: all-in-one", "role: main", "decoder: decoder.safetensors"):
        assert line in told.splitlines()
    assert "parts: stage C 16x16, float32, 0.3 MB; the text encoder, float32, " in told
    assert cli.main(["inspect", str(second), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["role"] == "decoder" and "decoder" not in facts and facts["problems"] == []
    assert facts["parts"][-1].endswith("not read: the main file's is used")


def test_inspect_tells_what_is_wrong(states, tmp_path, capsys):
    tensors = files.main_tensors(chosen(states, *MAIN)) | {"other.weight": torch.zeros(1)}
    del tensors["model.diffusion_model.clf.1.bias"]
    path = files.write(tmp_path / "main.safetensors", tensors)
    assert cli.main(["inspect", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["decoder"] == "none in this folder"
    assert facts["problems"] == ["stage C: 1 missing (clf.1.bias)", "of no part: 1 unknown (other.weight)"]


def test_parts_that_are_not_used_are_known(states, tmp_path):
    control = {"backbone.0.0.weight": torch.zeros(2, 3, 3, 3), "projections.0.0.weight": torch.zeros(2)}
    canny = files.write(tmp_path / "canny.safetensors", control)
    assert inspect(canny).role == "controlnet"
    told = report(canny)
    assert told["parts"] == ["a ControlNet, float32, 0.0 MB, not used here"] and told["problems"] == []
    with pytest.raises(PrismError, match="which is known, but not used here"):
        load(canny, "controlnet")


def test_a_vision_encoder_that_is_damaged_is_told(states, tmp_path):
    vision = {"vision_model.embeddings.class_embedding": torch.zeros(8), "visual_projection.weight": torch.zeros(4, 8)}
    tensors = files.main_tensors(chosen(states, "stage_c")) | files.prefixed("clip_l_vision.", vision)
    main = files.write(tmp_path / "m.safetensors", tensors)
    assert list(inspect(main).parts) == ["stage_c", "vision"]
    (problem,) = report(main)["problems"]
    assert problem.startswith("the vision encoder of Stable Cascade needs ")


def test_the_studio_knows_cascade_files_by_their_headers(states, tmp_path):
    found = studio.inspect(all_in_one(tmp_path, states, True))
    assert (found.family, found.parts, found.native_size) == ("cascade", MAIN, 1024)
    folder = files.diffusers_folder(tmp_path / "folder", chosen(states, *MAIN))
    index = files.write_index(tmp_path / "shards", "main", states["stage_c"])
    for path, parts in ((folder, MAIN), (folder / "prior", ("stage_c", "text")[:1]), (index, ("stage_c",))):
        assert (studio.inspect(path).family, studio.inspect(path).parts) == ("cascade", parts)
