"""Each fault of a value has its place and a sentence of ours, whatever pydantic calls it."""

import re
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticKnownError
from pydantic_core._pydantic_core import list_all_errors

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.fault import MAX_FAULTS, Fault
from visual_memory.schemas.fault_sentences import OWN, PLAIN, SENTENCES, describe
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.schemas.validation_faults import (
    MAX_EXAMINED,
    error_of_faults,
    first_faults,
    list_faults,
    list_json_faults,
)

FOREIGN = re.compile(
    r"pydantic|starlette|multipart|\bInput\b|Field required|should|python|dict|instance|timedelta|\bNone\b",
    re.IGNORECASE,
)
KINDS: dict[str, Any] = {each["type"]: each for each in list_all_errors()}


def error_of(model: Any, text: str) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(model).validate_json(text)
    return caught.value


def places(model: Any, text: str) -> dict[str, tuple[str, str]]:
    return {fault.pointer or "": (fault.code, fault.detail) for fault in list_json_faults(error_of(model, text), text)}


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - OWN))
def test_every_kind_of_error_has_a_sentence_without_a_library_s_words(kind: str) -> None:
    """A pydantic with more kinds fails this: give them sentences in the table."""
    context = KINDS[kind]["example_context"]
    said = PydanticKnownError(kind, context).message()  # type: ignore[arg-type]  # every one of its literals
    code, sentence = describe({"type": kind, "loc": (), "msg": said, "ctx": context})
    assert kind in SENTENCES
    assert not FOREIGN.search(sentence), sentence
    assert "{" not in sentence
    assert said not in sentence
    assert re.fullmatch(r"[a-z_]+", code)


def test_a_kind_that_is_unheard_of_is_described_plainly() -> None:
    assert describe({"type": "quantum_error", "loc": (), "msg": "Input should be pydantic"}) == PLAIN


@pytest.mark.parametrize(
    ("text", "pointer", "code", "says"),
    [
        ('{"reason": "x", "filter": {"source": null}}', "/filter/source", "wrong_type", "text, a list or an object"),
        ('{"reason": "x", "filter": {"source": [null]}}', "/filter/source/0", "wrong_type", "a number or text"),
        ('{"reason": "x", "filter": {"source": {}}}', "/filter/source", "invalid", "a range needs at least one"),
        ('{"reason": "x", "filter": {"a": {"after": 1}}}', "/filter/a/after", "unknown_field", "is no field"),
        ('{"reason": "x", "filter": {"a": {"not": null}}}', "/filter/a/not", "wrong_type", "must be true or false"),
        ('{"reason": "x", "everything": true, "a/b~": 1}', "/a~1b~0", "unknown_field", "is no field"),
        ('{"everything": true}', "/reason", "missing", "must be given"),
        ("[]", "", "wrong_type", "must be an object"),
        ('{"reason"', "", "invalid_json", "is not JSON: line 1, column 9"),
    ],
)
def test_a_fault_points_into_the_body_whatever_union_it_is_in(text: str, pointer: str, code: str, says: str) -> None:
    [(place, (found, detail))] = places(RemovalRequest, text).items()
    assert (place, found) == (pointer, code)
    assert says in detail


def test_every_fault_is_listed_in_the_order_of_the_fields() -> None:
    found = places(ImageFields, '{"labels": [], "subject": " ", "captured_at": "2026-01-01T00:00:00", "colour": 1}')
    assert found == {
        "/labels": ("too_short", "must have at least 1 item"),
        "/subject": ("invalid", "must not be empty or blank"),
        "/captured_at": ("wrong_form", "must name its time zone, as in 2026-01-31T12:00:00Z"),
        "/colour": ("unknown_field", "is no field that is known here"),
    }


def test_at_most_a_hundred_are_listed_and_the_others_counted() -> None:
    error = error_of(list[ImageFields], f"[{'{},' * 149}{{}}]")
    listed = error_of_faults(InvalidRequest, list_faults(error))
    assert (len(listed.errors), listed.errors[-1].detail) == (MAX_FAULTS + 1, "there are 50 more faults")
    assert listed.message == "there are 150 faults; the first: 0.labels: must be given"


def test_without_the_value_the_names_of_types_are_left_out_all_the_same() -> None:
    error = error_of(RemovalRequest, '{"reason": 1, "filter": {"source": null}, "a": 1, "b": 1}')
    assert first_faults(error).endswith("(and 1 more)")
    assert first_faults(error).startswith("filter.source: must be true or false, ")
    assert first_faults(error_of(RemovalRequest, "{"), "event").startswith("event: is not JSON")


def test_what_was_sent_is_not_repeated() -> None:
    text = '{"labels": [7], "subject": {"a secret": 1}, "captured_at": "a secret"}'
    assert "secret" not in str(list_json_faults(error_of(ImageFields, text), text))


def test_a_name_of_any_length_or_letters_is_shown_in_short() -> None:
    text = '{"labels": ["cat"], "' + "n" * 10_000 + '": 1}'
    [fault] = list_json_faults(error_of(ImageFields, text), text)
    assert len(fault.pointer or "") == 201


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        (Fault(part="fields", index=3, pointer="/labels/0", code="x", detail="y"), "fields, number 4: labels.0"),
        (Fault(part="fields", index=0, pointer="", code="x", detail="y"), "fields, number 1"),
        (Fault(parameter="filter", pointer="/a~1b", code="x", detail="y"), "filter.a/b"),
        (Fault(header="If-Match", code="x", detail="y"), "If-Match"),
        (Fault(code="x", detail="y"), ""),
    ],
)
def test_a_place_is_told_in_words(fault: Fault, place: str) -> None:
    assert str(fault) == (f"{place}: y" if place else "y")


def test_faults_by_the_thousand_are_neither_examined_nor_counted() -> None:
    unknown = ", ".join(f'"n{number}": 1' for number in range(9999))
    error = error_of(RemovalRequest, f'{{"reason": "x", "everything": true, {unknown}}}')
    listed = error_of_faults(InvalidRequest, list_faults(error))
    assert listed.message.startswith("there are over 1,000 faults; the first: n0: ")
    assert listed.errors[-1].detail == "there are over 1,000 more faults"
    assert len(list_faults(error)) == MAX_EXAMINED
