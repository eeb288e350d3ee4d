"""Whatever a file or a row holds, reading it gives a value within limits or one `MalformedError`."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Architecture, SpaceError
from search_spaces.reading import MalformedError, file_bytes, json_object, json_value, require

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(values)
def test_what_was_written_is_read(value: object) -> None:
    text = json.dumps(value)
    assert json_value(text) == value == json_value(text.encode())


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_anything_else_is_one_error(content: bytes | str) -> None:
    try:
        json_object(content, step=int)
    except MalformedError as error:
        assert "\n" not in str(error)
    else:
        raise AssertionError(f"{content!r} has no integer 'step'")


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + ("1" if opening != "[" else "") + closing * depth


@pytest.mark.parametrize(
    "text", [nested(101), nested(100_000), nested(101, '{"a":', "}"), nested(100_000, '{"a":', "}")]
)
@pytest.mark.parametrize("kind", [str, str.encode])
def test_deep_nesting_is_refused(text: str, kind) -> None:
    with pytest.raises(MalformedError, match="is nested deeper than 100 levels"):
        json_value(kind(text))


def test_the_limit_is_on_depth_and_not_on_brackets() -> None:
    assert json_value(nested(100)) == json.loads(nested(100))
    assert json_value("[" + ",".join(["[]"] * 5_000) + "]") == [[]] * 5_000
    assert json_value(json.dumps(nested(500))) == nested(500), "brackets within a text are no levels"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        ("9" * 5_000, "is not JSON"),
        ("[1]", "is [1], not a JSON object"),
        ("null", "is None, not a JSON object"),
        ("{}", "has no 'step'"),
        ('{"step": true}', "has True as 'step', which must be an integer"),
        ('{"step": "1"}', "has '1' as 'step', which must be an integer"),
        (None, "is None, not text"),
        (" " * 2_000 + "{}", "has 2,002 characters, more than the 1,000 that are read"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(MalformedError) as caught:
        json_object(text, most_bytes=1_000 if isinstance(text, str) and text.startswith(" ") else 100_000, step=int)
    assert str(caught.value).startswith(message)


def test_members_may_be_of_several_types() -> None:
    assert require({"a": 1, "b": None}, a=float, b=(str, type(None))) == {"a": 1, "b": None}
    with pytest.raises(MalformedError, match="has 1 as 'b', which must be text or NoneType"):
        require({"b": 1}, b=(str, type(None)))


def test_files_are_read_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(b"12345")
    assert file_bytes(path, 5) == b"12345"
    with pytest.raises(MalformedError, match="is larger than the 4 bytes"):
        file_bytes(path, 4)
    with path.open("wb") as file:
        file.truncate(2**40)  # a terabyte of nothing, which takes no room
    with pytest.raises(MalformedError, match="is larger than"):
        file_bytes(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, message in [("pipe", "no regular file"), ("", "cannot be read"), ("missing", "cannot be read")]:
        with pytest.raises(MalformedError, match=message):
            file_bytes(tmp_path / name)


@pytest.mark.parametrize("text", [nested(100_000), '{"is":"A","b":' + nested(5_000) + "}"])
def test_a_deep_architecture_is_refused(text: str) -> None:
    with pytest.raises(SpaceError, match=r"is nested deeper than 100 levels; give the text that"):
        Architecture.from_json(text)
