"""Promises 2 and 3: what is stored while a removal runs tells of nothing that the removal takes; on both databases."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.test_stored_decisions import noted, removal_runs
from tests.support.memory_images import quick_folder
from tests.support.shape_pictures import picture
from tests.support.wired_service import Parts
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.decision import Decision
from visual_memory.schemas.errors import BeingRemoved, Unavailable
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.moments import now
from visual_memory.schemas.stored_decision import StoredDecision
from visual_memory.services.decisions.concurrent_removals import RequestStart
from visual_memory.services.decisions.remove_from_decisions import RemoveFromDecisions
from visual_memory.services.decisions.stored_decisions import StoredDecisions, insert_decision
from visual_memory.services.infrastructure.records import tables
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.covered_image_records import CoveredImages


@pytest.fixture
def parts(memory: Memory, database: Database, _sandboxes: None, _told_apart: None) -> Iterator[Parts]:
    with quick_folder() as folder, ThreadPoolExecutor(4) as pool:
        yield Parts(folder, memory, pool, given=database)


def covers(parts: Parts, *image_ids: str, removal: str = "r") -> None:
    """Note what a removal covers."""
    with parts.database.write() as connection:
        for each in map(noted, parts.held(*image_ids)):
            row = {**each.model_dump(mode="json"), "removal": removal, "tenant": parts.tenant, "marked_by": removal}
            row |= {"point": each.image_id} if "point" in tables.covered_images.c else {}
            connection.execute(tables.covered_images.insert().values(row))


def log(parts: Parts, event: str, removal: str = "r") -> None:
    row = {"tenant": parts.tenant, "number": 1, "event": event, "removal": removal, "at": now()}
    row |= (
        {"entry": "", "digest": "", "version": 2} if "version" in tables.receipt_log.c else {"entry": "", "digest": ""}
    )
    with parts.database.write() as connection:
        connection.execute(tables.receipt_log.insert().values(row))


def asked(parts: Parts, data: bytes, **options: Any) -> tuple[StoredDecisions, RequestStart, Any]:
    """A question that was asked and is not stored yet."""
    decisions, classify = parts.decisions(), parts.classify()
    begun, vectors = decisions.begin(parts.tenant), classify.embed(parts.tenant, [data])
    return decisions, begun, (vectors, classify.decide(parts.tenant, vectors, ClassifyOptions(**options)))


def keep(parts: Parts, question: tuple[StoredDecisions, RequestStart, Any], data: bytes | None) -> Decision:
    decisions, begun, (vectors, made) = question
    pictures = [] if data is None else [data]
    [kept] = decisions.store(parts.tenant, "a test", begun, pictures, vectors, made.options, made.decisions)
    return kept


def held(parts: Parts) -> list[StoredDecision]:
    return [*parts.decisions().latest(parts.tenant, 10)]


def test_a_neighbour_that_is_covered_by_then_is_not_stored(parts: Parts) -> None:
    [gone, kept] = parts.teach(picture("disc"), picture("bars"))
    question = asked(parts, data := picture("cross"))
    removal_runs(parts, "r")
    covers(parts, gone)
    keep(parts, question, data)
    [stored] = held(parts)
    assert ([each.image_id for each in stored.decision.neighbours], stored.scrubbed) == ([kept], 1)
    assert gone not in stored.model_dump_json()


def test_what_is_asked_with_is_not_stored_while_it_is_removed(parts: Parts) -> None:
    [gone] = parts.teach(data := picture("disc"))
    by_picture, by_vector = asked(parts, data), asked(parts, data, filter=Filter({"image_id": "none"}))
    removal_runs(parts, "r")
    covers(parts, gone)
    parts.memory.marks.mark(parts.tenant, Filter({"image_id": gone}).clauses({}), "r")
    RemoveFromDecisions(parts.decisions()).note_vectors(parts.tenant, "r")
    for question, sent in ((by_picture, data), (by_picture, None), (by_vector, None)):
        with pytest.raises(BeingRemoved):
            keep(parts, question, sent)
    assert held(parts) == []


def test_a_filter_that_names_what_is_removed_is_not_stored(parts: Parts) -> None:
    [gone] = parts.teach(picture("disc"), subject="ann")
    parts.teach(picture("bars"), subject="bob")
    data = picture("cross")
    questions = [
        asked(parts, data, filter=Filter.model_validate(condition))
        for condition in ({"source": {"not": "camera-1"}}, {"subject": {"not": ["ann"]}}, {"image_id": {"not": gone}})
    ]
    fine = asked(parts, data, filter=Filter({"subject": "bob"}))
    removal_runs(parts, "r", filter={"source": "camera-1"})
    covers(parts, gone)
    parts.memory.marks.mark(parts.tenant, Filter({"subject": "ann"}).clauses({}), "r")
    for question in questions:
        with pytest.raises(BeingRemoved):
            keep(parts, question, data)
    kept = keep(parts, fine, data)
    assert [each.id for each in held(parts)] == [kept.id]


@pytest.mark.parametrize(
    ("event", "step", "is_seen"),
    [("done", "done", True), ("requested", "delete", True), ("requested", "mark", False), ("erased", "done", False)],
)
def test_what_was_asked_before_a_removal_was_carried_out_is_asked_again(
    parts: Parts, event: str, step: str, is_seen: bool
) -> None:
    parts.teach(picture("disc"))
    question = asked(parts, data := picture("cross"))
    removal_runs(parts, "r", step=step)
    log(parts, event)
    if is_seen:
        with pytest.raises(Unavailable, match="send it again"):
            keep(parts, question, data)
    else:
        keep(parts, question, data)
    assert len(held(parts)) == (not is_seen)
    keep(parts, asked(parts, data), data)


def test_a_removal_waits_for_those_that_did_not_see_its_notes(parts: Parts) -> None:
    [gone] = parts.teach(data := picture("disc"))
    keep(parts, asked(parts, data), data)
    [stored] = held(parts)
    parts.decisions().delete(parts.tenant, stored.id)
    covered = CoveredImages.of(parts.held(gone))
    with ThreadPoolExecutor(1) as thread:
        with parts.database.write() as connection:
            parts.database.serial(connection, f"decisions:{parts.tenant}", shared=True)
            removing = thread.submit(RemoveFromDecisions(parts.decisions()).remove_covered, parts.tenant, covered)
            with pytest.raises(TimeoutError):
                removing.result(0.5)
            insert_decision(connection, parts.tenant, stored)
        removing.result()
    assert held(parts) == []
