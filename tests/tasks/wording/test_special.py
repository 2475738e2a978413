from pathlib import Path

import pytest

from tasks.config.concepts import TextConfig
from tasks.wording.special import matcher, read_tags, special_tags


def test_names_must_be_equal_and_regular_expressions_match_a_whole_tag() -> None:
    named = matcher(["red sail", " sea\n"], regex=False)
    assert [named(tag) for tag in ("red sail", "red sails", "sea", "Sea")] == [
        True,
        False,
        True,
        False,
    ]
    matched = matcher(["red .*", "sea|lake"], regex=True)
    tags = ("red sail", "a red sail", "lake", "lakes")
    assert [matched(tag) for tag in tags] == [True, False, True, False]


def test_a_file_holds_one_per_line_or_several_with_the_delimiter_between(tmp_path: Path) -> None:
    path = tmp_path / "tags.txt"
    path.write_text("\ufeffred sail, sea\r\n\n  fog ;mist\n")
    assert read_tags(str(path), ",", regex=False) == ["red sail", "sea", "fog ;mist"]
    assert read_tags(str(path), ";", regex=False) == ["red sail, sea", "fog", "mist"]
    path.write_text("a{1,2}\nb\n")
    assert read_tags(str(path), ",", regex=True) == ["a{1,2}", "b"]


def test_list_and_file_add_up_and_are_read_only_when_they_matter(tmp_path: Path) -> None:
    path = tmp_path / "tags.txt"
    path.write_text("sea")
    text = TextConfig(
        tag_dropout_enable=True,
        tag_dropout_special_tags_mode="whitelist",
        tag_dropout_special_tags=("fog",),
        tag_dropout_special_tags_path=str(path),
    )
    special = special_tags(text)
    assert [special(tag) for tag in ("sea", "fog", "sand")] == [True, True, False]
    path.unlink()
    with pytest.raises(ValueError, match=r"tags\.txt cannot be read: No such file"):
        special_tags(text)
    assert not special_tags(text.model_copy(update={"tag_dropout_enable": False}))("fog")


def test_a_file_by_url() -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/special/tags.txt", b"sea")
    assert read_tags("memory://special/tags.txt", ",", regex=False) == ["sea"]


def test_a_wrong_expression_is_named() -> None:
    with pytest.raises(ValueError, match=r"'a\(' is no regular expression: missing \)"):
        matcher(["a("], regex=True)
