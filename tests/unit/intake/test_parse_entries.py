"""Entries that are accepted in one write: of one kind, and those of one image in their order."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.intake_events import image_event
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Entry
from visual_memory.services.intake.streams.parse_entries import ReadableEntry, read, runs

PICTURE = {"picture": "cGljdHVyZQ=="}
VECTOR = {"vector": [1, 2], "encoder": "any"}
REFERENCE = {"dataref": "s3://bucket/1"}


def _sent(*contents: tuple[str, Mapping[str, Any]]) -> list[ReadableEntry]:
    return [_readable(place, *each) for place, each in enumerate(contents)]


def _readable(place: int, image_id: str, content: Mapping[str, Any]) -> ReadableEntry:
    reference = content.get("dataref")
    data = {"labels": ["a"], "image_id": image_id, **({} if reference else content)}
    found = read(Entry(f"{place}-1", image_event(data=data, dataref=reference)))
    assert isinstance(found, ReadableEntry)
    return found


def _places(found: Sequence[ReadableEntry]) -> list[list[int]]:
    return [[int(each.entry.id.partition("-")[0]) for each in run] for run in runs(found)]


def test_entries_of_one_kind_go_together_whatever_lies_between_them() -> None:
    assert _places(_sent(("a", PICTURE), ("b", VECTOR), ("c", PICTURE), ("d", VECTOR))) == [[0, 2], [1, 3]]


def test_no_entry_goes_past_another_of_its_image() -> None:
    assert _places(_sent(("a", PICTURE), ("b", VECTOR), ("b", PICTURE), ("c", VECTOR))) == [[0], [1], [2], [3]]


def test_none_goes_past_one_whose_picture_lies_elsewhere() -> None:
    assert _places(_sent(("a", VECTOR), ("b", REFERENCE), ("c", REFERENCE), ("d", VECTOR))) == [[0], [1, 2], [3]]
