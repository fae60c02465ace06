"""What text may be, and that it has one spelling."""

# ruff: noqa: RUF001 - letters that look alike are what this is about

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from visual_memory.schemas.api_key import KeyRequest
from visual_memory.schemas.curation_request import CurationRequest
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields, ImagePatch
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.schemas.text_rules import FileName, Label, Metadata, Text, base_name, repaired

TEXT = TypeAdapter[str](Text)
LABEL = TypeAdapter[str](Label)
FILE_NAME = TypeAdapter[str](FileName)
METADATA = TypeAdapter[dict[str, Any]](Metadata)
COMPOSED, DECOMPOSED = "Jos\u00e9", "Jose\u0301"

SEEN = [
    "José Ñuñez",
    "ｶﾀｶﾅ ＦＵＬＬ",  # wide and narrow letters stay what they are
    "O\u2019Brien \u2014 \u00a0x",
    "می\u200cخواهم",  # Persian: two letters that would join
    "क्\u200dष र्\u200cय",  # Indic: half forms
    "র\u200d্যাব",  # Bengali: the joiner stands before the sign
    "👩\u200d🚀 👨🏽\u200d💻 ❤\ufe0f\u200d🔥 🙂\u200d↔\ufe0f",
    "1\ufe0f\u20e3 ☎\ufe0e ‼\ufe0f",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f 🇨🇭",
    "葛\U000e0100城 ᠠ\u180b",
    "⠓⠑\u2800⠊",
    "\u06dd ٣",
    "\U0001fae9 \U000323af",  # emoji and ideographs that are younger than this Python
]
UNSEEN = [
    "\u200b",
    "\ufeffann",
    "ann\u200b",
    "an\u200dn",
    "an\u200cn",
    "a\u00adnn",
    "ann\u2060",
    "\u202eann",
    "ann\u200e",
    "a\u2028b",
    "a\u2029b",
    "ann\ufe0f",
    "1\ufe0f",
    "ann\U000e0061",
    "ann\U000e0100",
    "\u3164",
    "a\u115fb",
    "a\u2800",
    "a\u034fb",
    "\ue000",
    "\U0010fffd",
    "\u0378",
    "\ufdd0",
    "a\x07b",
    "a\nb",
    "a\x85b",
]
SAME: list[tuple[type[Any], dict[str, Any], str]] = [
    (ImageFields, {"labels": ["NAME", "other"]}, "labels"),
    (ImageFields, {"labels": ["x"], "subject": "NAME"}, "subject"),
    (ImageFields, {"labels": ["x"], "source": "NAME"}, "source"),
    (ImageFields, {"labels": ["x"], "metadata": {"name": "NAME"}}, "metadata"),
    (ImagePatch, {"subject": "NAME"}, "subject"),
    (CurationRequest, {"action": "relabel", "filter": {"labels": ["NAME"]}, "labels": ["NAME"]}, "labels"),
    (CurationRequest, {"action": "mute", "filter": {"labels": {"not": ["NAME"]}}}, "filter"),
    (RemovalRequest, {"filter": {"subject": "ann"}, "reason": "NAME"}, "reason"),
    (RemovalRequest, {"filter": {"subject": ["NAME"]}, "reason": "x"}, "filter"),
    (KeyRequest, {"name": "NAME", "tenant": "t", "scopes": ["admin"]}, "name"),
]


def _written(values: Any, name: str) -> Any:
    match values:
        case dict():
            return {key: _written(value, name) for key, value in values.items()}
        case list():
            return [_written(value, name) for value in values]
    return name if values == "NAME" else values


@pytest.mark.parametrize(("model", "values", "field"), SAME, ids=str)
@pytest.mark.parametrize("spelling", [DECOMPOSED, f"  {COMPOSED}\n", f"\u3000{DECOMPOSED}\u00a0"], ids=ascii)
def test_two_spellings_are_one(model: type[Any], values: dict[str, Any], field: str, spelling: str) -> None:
    plain = getattr(model.model_validate(_written(values, COMPOSED)), field)
    assert getattr(model.model_validate(_written(values, spelling)), field) == plain


@pytest.mark.parametrize("text", SEEN, ids=ascii)
def test_what_can_be_seen_is_taken(text: str) -> None:
    expected = unicodedata.normalize("NFC", text)
    assert [TEXT.validate_python(text), METADATA.validate_python({"a": text})["a"], repaired(text)] == [expected] * 3
    assert Filter({"subject": text}).clauses({})[0].values == (expected,)


@pytest.mark.parametrize("text", UNSEEN, ids=ascii)
def test_what_cannot_be_seen_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="must not contain"):
        TEXT.validate_python(text)
    if "\n" not in text:
        with pytest.raises(ValidationError, match="must not contain"):
            METADATA.validate_python({"a": text})
        with pytest.raises(Exception, match="filter: subject must not contain"):
            Filter({"subject": [text]}).clauses({})
        assert Filter({"subject": [text]}).clauses({}, stored=True), "what was accepted before is still understood"


def test_what_is_wrong_is_named_without_showing_it() -> None:
    with pytest.raises(ValidationError, match=r"U\+200B ZERO WIDTH SPACE"):
        TEXT.validate_python("ann\u200b")


@given(st.text(max_size=30))
def test_what_is_taken_stays_as_it_is(text: str) -> None:
    try:
        taken = TEXT.validate_python(text)
    except ValidationError:
        return
    assert TEXT.validate_python(taken) == taken
    assert taken == unicodedata.normalize("NFC", taken).strip()
    assert TEXT.validate_python(unicodedata.normalize("NFD", taken)[:200]) == taken


@given(st.text(max_size=30))
def test_what_is_repaired_is_taken(text: str) -> None:
    if repaired(text):
        assert METADATA.validate_python({"a": repaired(text)}) == {"a": repaired(text)}


def test_each_part_of_a_label_is_trimmed() -> None:
    assert LABEL.validate_python(f" animal / {DECOMPOSED} ") == f"animal/{COMPOSED}"
    assert Filter({"labels": f"animal / {DECOMPOSED}"}).clauses({})[0].values == (f"animal/{COMPOSED}",)


def test_text_is_measured_as_it_is_kept() -> None:
    grows = "\u0958" * 101  # a letter that is written as two in NFC
    with pytest.raises(ValidationError, match="more than 200 characters in Unicode's NFC"):
        TEXT.validate_python(grows)


@pytest.mark.parametrize("path", ["cat.jpg", "a/b/cat.jpg", "C:\\pets\\cat.jpg", " /cat.jpg "])
def test_of_a_path_the_file_name_is_kept(path: str) -> None:
    assert FILE_NAME.validate_python(path) == base_name(path) == "cat.jpg"


def test_a_folder_is_no_file_name() -> None:
    with pytest.raises(ValidationError, match="not a folder"):
        FILE_NAME.validate_python("pets/")
