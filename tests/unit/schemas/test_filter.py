"""The filter means one thing, here as in both engines, and says what is wrong with a bad one."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from visual_memory.schemas.errors import InvalidFilter
from visual_memory.schemas.field_types import FIELDS, FieldType
from visual_memory.schemas.filter import Filter, filters_by_image_ids, matches
from visual_memory.schemas.image import State, StoredImage

METADATA = {
    "site": FieldType.KEYWORD,
    "age": FieldType.INTEGER,
    "weight": FieldType.FLOAT,
    "indoor": FieldType.BOOLEAN,
    "seen": FieldType.DATETIME,
}
IMAGE = StoredImage(
    image_id="one",
    labels=["animal/cat", "pet"],
    state=State.REMEMBERED,
    source="camera-1",
    captured_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
    accepted_at=datetime(2026, 2, 1, tzinfo=UTC),
    metadata={"site": "north", "age": 3, "weight": 2.5, "indoor": True, "seen": "2026-01-01T00:00:00Z"},
    content_hash="0" * 64,
    tenant="default",
    picture="default/one",
)
MET = [
    {},
    {"image_id": "one"},
    {"labels": "animal"},
    {"labels": "animal/cat"},
    {"labels": ["dog", "pet"]},
    {"state": ["remembered", "waiting"]},
    {"source": "camera-1", "labels": "pet"},
    {"subject": {"not": "ann"}},
    {"source": {"not": ["camera-2", "camera-3"]}},
    {"captured_at": {"gte": "2026-01-31T13:00:00+01:00", "lt": "2026-02-01T00:00:00Z"}},
    {"captured_at": "2026-01-31T12:00:00Z"},
    {"captured_at": {"not": {"gt": "2026-01-31T12:00:00Z"}}},
    {"metadata.site": "north"},
    {"metadata.age": 3},
    {"metadata.age": {"gt": 2, "lte": 3}},
    {"metadata.weight": {"gte": 2.5}},
    {"metadata.weight": {"gt": 2}},
    {"metadata.indoor": True},
    {"metadata.indoor": {"not": False}},
    {"metadata.seen": {"lt": "2026-01-01T00:00:01Z"}},
]
UNMET: list[dict[str, Any]] = [
    {"image_id": "One"},
    {"labels": "cat"},
    {"labels": "anim"},
    {"labels": {"not": "animal"}},
    {"state": "waiting"},
    {"source": "camera-1", "labels": "dog"},
    {"subject": "ann"},
    {"captured_at": {"gt": "2026-01-31T12:00:00Z"}},
    {"metadata.age": {"gt": 3}},
    {"metadata.age": {"not": 3}},
    {"metadata.indoor": False},
    {"metadata.weight": 3},
]
UNREADABLE: list[Any] = [
    [],
    "source",
    None,
    {"source": []},
    {"source": {}},
    {"source": None},
    {"source": {"not": None}},
    {"source": {"not": {"not": "a"}}},
    {"source": {"gte": "a", "not": "b"}},
    {"source": {"between": ["a", "b"]}},
    {"source": [["a"]]},
    {"source": "x" * 1001},
    {"source": ["a"] * 1001},
    {"metadata.age": float("nan")},
    {"metadata.age": float("inf")},
]
WRONG = [
    ({"colour": "red"}, "'colour'"),
    ({"tenant": "default"}, "'tenant'"),
    ({"picture": "x"}, "'picture'"),
    ({"metadata.size": 1}, "'metadata.size'"),
    ({"site": "north"}, "'site'"),
    ({"source": 1}, "source takes text"),
    ({"source": True}, "source takes text"),
    ({"source": {"gte": "a"}}, "not a range"),
    ({"metadata.indoor": {"gte": 1}}, "not a range"),
    ({"metadata.indoor": 1}, "true or false"),
    ({"metadata.age": "3"}, "whole number"),
    ({"metadata.age": 3.0}, "whole number"),
    ({"metadata.age": True}, "whole number"),
    ({"metadata.age": 2**63}, "whole number"),
    ({"metadata.age": {"gte": "3"}}, "whole number"),
    ({"metadata.weight": "heavy"}, "finite number"),
    ({"metadata.weight": 10**400}, "number"),
    ({"captured_at": "yesterday"}, "time zone"),
    ({"captured_at": "2026-01-31T12:00:00"}, "time zone"),
    ({"captured_at": {"not": {"gt": "2026-01-31"}}}, "time zone"),
    ({"state": "asleep"}, "waiting, remembered, rejected, muted"),
    ({"labels": ["cat", 1]}, "labels takes text"),
    ({"labels": "cat/"}, "empty parts"),
    ({"subject": {"not": " "}}, "empty or blank"),
    ({"file_name": "folder/tom.jpg"}, "without folders"),
]


@pytest.mark.parametrize("where", MET, ids=str)
def test_is_met(where: dict[str, Any]) -> None:
    assert matches(Filter.model_validate(where).clauses(METADATA), IMAGE)


@pytest.mark.parametrize("where", UNMET, ids=str)
def test_is_not_met(where: dict[str, Any]) -> None:
    assert not matches(Filter.model_validate(where).clauses(METADATA), IMAGE)


@pytest.mark.parametrize("where", UNREADABLE, ids=lambda where: str(where)[:40])
def test_is_no_filter(where: Any) -> None:
    with pytest.raises(ValidationError):
        Filter.model_validate(where)


@pytest.mark.parametrize(("where", "says"), WRONG, ids=lambda given: str(given)[:40])
def test_says_what_is_wrong(where: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        Filter.model_validate(where).clauses(METADATA)
    assert says in caught.value.message
    assert caught.value.message.startswith("filter: ")


def test_an_unknown_field_is_told_the_known_ones() -> None:
    with pytest.raises(InvalidFilter) as caught:
        Filter.model_validate({"colour": "red"}).clauses({"age": FieldType.INTEGER})
    assert all(name in caught.value.message for name in [*FIELDS, "metadata.age"])


def test_a_metadata_value_of_another_type_than_declared_counts_as_none() -> None:
    clauses = Filter.model_validate({"metadata.age": {"not": 3}}).clauses(METADATA)
    assert matches(clauses, IMAGE.model_copy(update={"metadata": {"age": "three"}}))


@pytest.mark.parametrize("where", [*MET, *UNMET], ids=str)
def test_is_the_same_after_a_journey_as_json(where: dict[str, Any]) -> None:
    sent = Filter.model_validate(where)
    arrived = Filter.model_validate_json(sent.model_dump_json())
    assert arrived == sent
    assert arrived.clauses(METADATA) == sent.clauses(METADATA)
    assert bool(arrived) == bool(where)


def test_what_means_the_same_names_the_same() -> None:
    spelt = Filter.model_validate({"labels": {"not": ["animal / cat"]}, "content_hash": "A" * 64})
    assert spelt == Filter.model_validate({"labels": {"not": ["animal/cat"]}, "content_hash": "a" * 64})


def test_a_filter_is_at_most_64_kib_of_json() -> None:
    longest = {"image_id": ["x" * 64] * 970}
    assert len(Filter.model_validate(longest).clauses({})[0].values) == 970
    with pytest.raises(InvalidFilter, match=r"has 66,679 bytes, more than 65,536"):
        Filter.model_validate({"image_id": ["x" * 64] * 995}).clauses({})
    wide = Filter.model_validate({"labels": ["\u00e4" * 200] * 170})
    with pytest.raises(InvalidFilter, match="bytes"):
        wide.clauses({})
    assert wide.clauses({}, stored=True), "what was accepted before is still understood"


@pytest.mark.parametrize("length", [1, 64, 200])
def test_many_ids_become_filters_that_are_short_enough(length: int) -> None:
    ids = [f"{number}".rjust(length, "x") for number in range(2500)]
    filters = list(filters_by_image_ids(ids))
    assert [value for each in filters for value in each.clauses({})[0].values] == ids
    assert list(filters_by_image_ids([])) == []
