"""Prompt styles: applied, found again, read and written."""

from __future__ import annotations

import pytest
from sd_prism.studio import host

FILE = 'name,prompt,negative_prompt\nfilm,"{prompt}, 35mm, grain",blurry\ninked,ink drawing,\n# a remark,x,y\n'


@pytest.fixture(scope="module")
def styles(tmp_path_factory):
    """The host's module `modules.styles`."""
    host.open_host(data_dir=tmp_path_factory.mktemp("data"), builtin=False)
    from modules import styles

    yield styles
    host.close_host()


@pytest.fixture()
def database(styles, tmp_path):
    (tmp_path / "styles.csv").write_text(FILE, encoding="utf-8-sig")
    return styles.StyleDatabase([str(tmp_path / "styles.csv")])


def test_a_style_takes_the_prompt_into_its_placeholder_or_follows_it(database):
    assert database.apply_styles_to_prompt("a fish", ["film", "inked"]) == "a fish, 35mm, grain, ink drawing"
    assert database.apply_negative_styles_to_prompt("dark", ["film", "inked"]) == "dark, blurry"
    assert database.apply_styles_to_prompt("", ["inked"]) == "ink drawing"


def test_unknown_styles_and_remarks_change_nothing(database):
    assert list(database.styles) == ["film", "inked"]
    assert database.apply_styles_to_prompt("a fish", ["none such", "# a remark"]) == "a fish"


def test_applied_styles_are_found_again_in_the_order_they_were_applied(database):
    prompt = database.apply_styles_to_prompt("a fish", ["film", "inked"])
    negative = database.apply_negative_styles_to_prompt("dark", ["film", "inked"])
    assert database.extract_styles_from_prompt(prompt, negative) == (["film", "inked"], "a fish", "dark")
    assert database.extract_styles_from_prompt("a fish", "") == ([], "a fish", "")


def test_a_style_whose_negative_part_is_missing_is_not_found(database):
    assert database.extract_styles_from_prompt("a fish, 35mm, grain", "") == ([], "a fish, 35mm, grain", "")


def test_saved_styles_are_read_back_and_the_old_file_is_kept(database, styles, tmp_path):
    odd = styles.PromptStyle('odd, "one"', 'line\nbreak, "quotes"', "ü")
    database.styles[odd.name] = odd
    database.save_styles()
    again = styles.StyleDatabase([tmp_path / "styles.csv"])
    assert [tuple(style[:3]) for style in again.styles.values()] == [
        ("film", "{prompt}, 35mm, grain", "blurry"),
        ("inked", "ink drawing", ""),
        tuple(odd[:3]),
    ]
    assert (tmp_path / "styles.csv.bak").read_text(encoding="utf-8-sig") == FILE
    assert (tmp_path / "styles.csv").read_bytes().startswith(b"\xef\xbb\xbfname,prompt,negative_prompt\r\n")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["styles.csv", "styles.csv.bak"]


def test_a_file_that_is_no_list_of_styles_is_reported_and_kept(styles, tmp_path, capsys):
    (tmp_path / "styles.csv").write_bytes(b"\xff\xfe\x00")
    assert styles.StyleDatabase([tmp_path / "styles.csv"]).styles == {}
    assert f"kept whole as {tmp_path / 'styles.csv.damaged'}" in capsys.readouterr().err
    for _ in range(2):  # each save keeps but the file before it
        styles.StyleDatabase([tmp_path / "styles.csv"]).save_styles()
    assert (tmp_path / "styles.csv.damaged").read_bytes() == b"\xff\xfe\x00"


def test_a_pattern_reads_all_its_files_and_names_them(styles, tmp_path):
    for name in ("styles.csv", "styles_more.csv"):
        (tmp_path / name).write_text(f"name,text\n{name},words\n", encoding="utf8")
    database = styles.StyleDatabase([tmp_path / "styles*.csv"])
    assert {"styles.csv", "styles_more.csv"} < set(database.styles)
    assert database.styles["styles.csv"].prompt == "words"
    assert database.get_style_paths() == {str(tmp_path / "styles.csv"), str(tmp_path / "styles_more.csv")}


def test_old_files_have_a_text_column(styles, tmp_path):
    (tmp_path / "styles.csv").write_text("name,text\nold,words\n", encoding="utf8")
    assert styles.StyleDatabase([tmp_path / "styles.csv"]).styles["old"].prompt == "words"
