"""Lines of JSON are read as Python reads them, by whichever parser."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmawsss.files.json_files import parse_line

LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.characters()
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(VALUES, st.booleans())
def test_lines_are_read_as_python_reads_them(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert repr(parse_line(text)) == repr(json.loads(text))  # NaN is not equal to itself


def test_half_a_character_and_a_line_that_was_cut_off():
    name = "photo_\udc80"
    assert parse_line(json.dumps(name)) == name
    assert parse_line(json.dumps(name, ensure_ascii=False)) == name
    with pytest.raises(json.JSONDecodeError):
        parse_line('{"name": "a", "conf')
