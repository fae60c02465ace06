"""What a caller may say of a picture."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from visual_memory.schemas.image import ImageFields, ImagePatch
from visual_memory.schemas.labels import label_paths

GOOD: list[dict[str, Any]] = [
    {"labels": ["cat"]},
    {"labels": ["x" * 200]},
    {"labels": ["animal/cat/siamese", "Katze 🐱", "日本"]},
    {"labels": [f"label-{number}" for number in range(32)]},
    {"labels": ["cat"], "image_id": "A1._:@=+-"},
    {"labels": ["cat"], "image_id": "0" * 200},
    {"labels": ["cat"], "metadata": {"a": 1, "b_2": 2.5, "c": True, "d": "text", "e": -(2**63)}},
    {"labels": ["cat"], "metadata": {f"field_{number}": "" for number in range(32)}},
]
BAD: list[tuple[str, dict[str, Any]]] = [
    ("labels", {}),
    ("labels", {"labels": []}),
    ("labels", {"labels": "cat"}),
    ("labels", {"labels": ["x" * 201]}),
    ("labels", {"labels": [f"label-{number}" for number in range(33)]}),
    *(("labels", {"labels": [label]}) for label in ("", " ", "/a", "a/", "a//b", "a/ /b", "a\nb", "a\x00")),
    *(("image_id", {"image_id": name}) for name in ("", ".", "-a", "_a", "a/b", "../a", "a b", "a\n", "é", "a" * 201)),
    ("source", {"source": ""}),
    ("subject", {"subject": "x" * 201}),
    ("subject", {"subject": 7}),
    ("captured_at", {"captured_at": "2026-01-01T00:00:00"}),
    ("captured_at", {"captured_at": "tomorrow"}),
    ("metadata", {"metadata": {"Upper": 1}}),
    ("metadata", {"metadata": {"1st": 1}}),
    ("metadata", {"metadata": {"a.b": 1}}),
    ("metadata", {"metadata": {"": 1}}),
    ("metadata", {"metadata": {"a": None}}),
    ("metadata", {"metadata": {"a": [1]}}),
    ("metadata", {"metadata": {"a": {"b": 1}}}),
    ("metadata", {"metadata": {"a": float("nan")}}),
    ("metadata", {"metadata": {"a": 2**63}}),
    ("metadata", {"metadata": {"a": "x" * 1001}}),
    ("metadata", {"metadata": {f"field_{number}": 1 for number in range(33)}}),
    ("colour", {"colour": "red"}),
]


@pytest.mark.parametrize("fields", GOOD, ids=lambda given: str(given)[:40])
def test_is_taken_as_it_is(fields: dict[str, Any]) -> None:
    read = ImageFields.model_validate(fields)
    assert {name: getattr(read, name) for name in fields} == fields


@pytest.mark.parametrize(("field", "fields"), BAD, ids=lambda given: str(given)[:40])
def test_is_refused_and_the_field_is_named(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        ImageFields.model_validate({"labels": ["cat"], **fields} if fields else {})
    assert {fault["loc"][0] for fault in caught.value.errors()} == {field}


def test_labels_are_kept_once_in_their_order() -> None:
    assert ImageFields.model_validate({"labels": ["b", "a", "b"]}).labels == ["b", "a"]


def test_a_moment_is_kept_in_utc() -> None:
    read = ImageFields.model_validate({"labels": ["cat"], "captured_at": "2026-01-31T13:00:00+01:00"})
    assert read.captured_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert read.captured_at.utcoffset() == UTC.utcoffset(None)


def test_a_patch_tells_what_was_left_out_from_what_is_cleared() -> None:
    assert ImagePatch.model_validate({"subject": None}).model_dump(exclude_unset=True) == {"subject": None}
    assert ImagePatch.model_validate({}).model_dump(exclude_unset=True) == {}


@pytest.mark.parametrize("patch", [{"labels": None}, {"labels": []}, {"image_id": "a"}, {"state": "muted"}], ids=str)
def test_a_patch_that_is_refused(patch: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ImagePatch.model_validate(patch)


def test_every_prefix_of_a_label_is_a_path() -> None:
    assert label_paths(["animal/cat/siamese", "animal/dog", "pet"]) == [
        "animal",
        "animal/cat",
        "animal/cat/siamese",
        "animal/dog",
        "pet",
    ]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"])
def test_a_moment_outside_of_the_calendar_is_refused(moment: str) -> None:
    with pytest.raises(ValidationError, match="years 1 to 9999"):
        ImageFields.model_validate({"labels": ["cat"], "captured_at": moment})
