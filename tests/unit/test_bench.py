"""The benchmarks run and give what their tables show; how fast anything is, is not tested."""

import json

import pytest
from sd_prism.bench import cascade, merge, studio
from sd_prism.studio import cli


def test_the_studios_benchmark_runs_and_its_figures_fit_together(capsys, monkeypatch):
    found = studio.run(rounds=1, steps=2)
    assert found["bench"] == "studio" and found["threads"] == 1
    rows = {row["what"]: row for row in found["rows"]}
    assert list(rows) == ["first picture", "step", "job with Prism off", "start of Prism"]
    for row in rows.values():
        assert all(ms > 0 for ms in row["ms"].values())
    step, job = (list(rows[name]["ms"].values()) for name in ("step", "job with Prism off"))
    assert rows["step"]["ratio"] == pytest.approx(step[0] / step[1])
    assert step[0] * 2 < job[1]  # a job is its steps and more
    assert rows["first picture"]["ms"]["cold process"] > job[0]
    assert rows["step"]["target"] == 1.05 and rows["job with Prism off"]["target"] == 1.0

    monkeypatch.setattr(studio, "run", lambda: found)
    assert cli.main(["bench", "studio", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert cli.main(["bench", "studio"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == list(rows)
    assert "(target 1.05)" in lines[1]


def test_a_ratio_needs_two():
    assert studio.row("first picture", {"cold process": 5.0})["ratio"] is None
    assert studio.row("step", {"studio": 3.0, "bare diffusers": 2.0})["ratio"] == 1.5


def test_the_merges_benchmark_runs_and_its_figures_fit_together(capsys, monkeypatch):
    tiny = {**merge.SMALL, "block_out_channels": (32, 64), "cross_attention_dim": 16, "attention_head_dim": 4}
    monkeypatch.setattr(merge, "SMALL", tiny)
    monkeypatch.setattr(merge, "ROUNDS", 1)
    found = merge.run()
    rows = {row["what"]: row for row in found["rows"]}
    assert found["bench"] == "merge" and [name for name in rows if not name.startswith("peer: sd-mecha")] == [
        *merge.LIMITS,
        "peer: A1111's merger",
        "peer: lerp of fp32 copies",
        "unchanged plan",
        "private memory",
        "bake, to a copy",
    ]
    for name, limit in merge.LIMITS.items():
        row = rows[name]
        assert row["limit"] == limit and row["ratio"] == pytest.approx(row["ms"] / row["floor_ms"])
    assert rows["one block, M00"]["floor_ms"] < rows["weighted sum"]["floor_ms"]

    monkeypatch.setattr(merge, "run", lambda **options: found | {"rows": found["rows"][:1], "given": options})
    assert cli.main(["bench", "merge", "--full", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["given"] == {"full": True}
    assert cli.main(["bench", "merge"]) == 0
    assert "x floor" in capsys.readouterr().out.splitlines()[0]
    assert cli.main(["bench", "studio", "--full"]) != 0
    assert "--full is for bench merge" in capsys.readouterr().err


def test_cascades_benchmark_runs_and_its_figures_fit_together(capsys, monkeypatch):
    monkeypatch.setattr(cascade, "ROUNDS", 1)
    found = cascade.run(short=True)
    *networks, calls, inspect = found["rows"]
    assert found["bench"] == "cascade"
    assert [(row["what"], row["dtype"]) for row in networks] == [
        (stage, dtype) for dtype in ("f32", "bf16") for stage in ("stage C", "stage B")
    ]
    for row in networks:
        ms = row["ms"]
        assert row["ratio"] == ms["ours"] / ms["reference"] and row["called"] == ms["called"] / ms["reference"]
        assert row["limit"] == cascade.LIMITS[row["dtype"]]
        assert row["error"] < (1e-5 if row["dtype"] == "f32" else 0.05)  # ours and the reference compute the same
    assert calls["calls"] == {"CFG 1": cascade.STEPS, "CFG 1.2": 2 * cascade.STEPS} and calls["ratio"] == 0.5
    if inspect["read"] is not None:
        assert inspect["read"] < inspect["header"] + 65536  # of 8 GB

    monkeypatch.setattr(cascade, "run", lambda: found)
    assert cli.main(["bench", "cascade", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert cli.main(["bench", "cascade"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(found["rows"]) and lines[5].split()[:2] == ["decoder", "calls"]
