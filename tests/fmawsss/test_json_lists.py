"""JSON read entry by entry says what Python's reader of whole files says."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fmawsss.files.json_lists as json_lists
from fmawsss.files.json_lists import open_json, read_entry, stream_lists

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def gather(data: bytes) -> dict[str, Any]:
    """Gather lists; None stands for what is none."""
    found = stream_lists(io.BytesIO(data))
    return {k: None if entries is None else [e.value for e in entries] for k, entries in found}


@given(
    content=st.dictionaries(st.text(), VALUES),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
    part=st.integers(1, 9),
)
def test_lists_are_those_of_the_whole_file(
    content: dict[str, Any], ascii_only: bool, indent: int | None, part: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "PART", part)
        text = json.dumps(content, ensure_ascii=ascii_only, indent=indent)
        data = text.encode("utf-8", "ignore")
        expected = json.loads(data)
        lists = {k: v if isinstance(v, list) else None for k, v in expected.items()}
        assert gather(data) == lists

        # each entry is found again at its place
        file = io.BytesIO(data)
        for _, entries in stream_lists(io.BytesIO(data)):
            for start, size, value in entries or ():
                assert read_entry(file, start, size) == value


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a"', '{"a":', '{"a": [', '{"a": [1', '{"a": [1,]}', '{"a": [1 2]}', '{"a": 1,}',
     "{1: 2}", '{"a": [1]} x', '{"a": [1]', '{"a": tru}', '{"a": ["x]}', "[1", "nul", '{"a" 1}'],
)  # fmt: skip
def test_what_is_no_json_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"at byte \d+$"):
        gather(text.encode())
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


def test_bytes_that_are_no_utf_8_are_refused() -> None:
    with pytest.raises(ValueError, match="utf-8"):
        gather(b'{"a": ["\xff"]}')


def test_entries_that_nobody_asks_for_are_passed_over() -> None:
    assert [key for key, _ in stream_lists(io.BytesIO(b'{"a": [1, 2], "b": [3]}'))] == ["a", "b"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
def test_other_encodings_are_read(encoding: str, tmp_path: Any) -> None:
    path = tmp_path / "a.json"
    path.write_bytes('{"a": ["é"]}'.encode(encoding))
    with open_json(path) as file:
        assert gather(file.read()) == {"a": ["é"]}
