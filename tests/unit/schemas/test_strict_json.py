"""JSON whose keys are given twice."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.schemas.strict_json import check_keys, parse_json, read_json

TWICE = [
    ('{"a": 1, "a": 2}', "a: "),
    ('{"a": 1, "\\u0061": 1}', "a: "),
    ('{"a": {"b": 1, "c": [], "b": 1}}', "a.b: "),
    ('{"images": [{"x": 1}, {"x": [1, 2], "x" : 1}]}', "images.1.x: "),
    ('[[], [{"a\\"": 1, "a\\"": 2}]]', '1.0.a": '),
    ('{"a":"}","a":"{"}', "a: "),
    ('{"": 1, "": 2}', ": "),
    ('{"\\ud800": 1, "\\ud800": 2}', "\\ud800: "),
    ('{"a": 1, "a": 2}]]', "a: "),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(("text", "place"), TWICE, ids=str)
def test_a_key_given_twice_is_refused_and_named(text: str, place: str) -> None:
    for sent in (text, text.encode()):
        with pytest.raises(InvalidRequest) as caught:
            read_json(sent)
        assert caught.value.message == f"{place}this key is given twice: send it once"


@given(VALUES, st.booleans())
def test_what_is_right_is_read(value: Any, escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped)
    assert read_json(text) == read_json(text.encode()) == value


@given(st.dictionaries(st.text(max_size=5), VALUES, min_size=1, max_size=3), st.data())
def test_wherever_it_is_it_is_found(value: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(value)))
    again = f"{json.dumps(value)[:-1]}, {json.dumps(key)}: null}}"
    with pytest.raises(InvalidRequest, match="given twice"):
        check_keys(f'{{"outer": [1, [{again}]]}}')


def test_a_model_is_refused_too() -> None:
    with pytest.raises(InvalidRequest, match="subject: this key is given twice"):
        parse_json(ImageFields, '{"labels": ["x"], "subject": "ann", "subject": "ben"}')
    with pytest.raises(InvalidRequest, match=r"filter\.subject: this key"):
        parse_json(RemovalRequest, b'{"filter": {"subject": "ann", "subject": {"not": "ann"}}, "reason": "x"}')
    with pytest.raises(ValidationError):
        parse_json(ImageFields, "{")


@pytest.mark.parametrize("text", ["", "{", "nul", b"\xff", '{"a": 1}'.encode("utf-16")])
def test_what_is_not_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"Expecting|decode|Unterminated"):
        read_json(text)
