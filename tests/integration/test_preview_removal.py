"""The preview of a removal counts what it would cover and what else would go, and changes nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.support.shape_pictures import picture
from tests.support.wired_service import Parts
from visual_memory.schemas.background_job import JobKind
from visual_memory.schemas.errors import InvalidFilter, Unavailable
from visual_memory.schemas.evaluation_request import EvaluationRequest
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State
from visual_memory.schemas.moments import now
from visual_memory.schemas.removal import RemovalPreview, RemovalRequest, SampleImage
from visual_memory.services.data_governance.preview_removal import PreviewRemoval
from visual_memory.services.decisions.explanations.explanation_jobs import ExplanationRequest
from visual_memory.services.infrastructure.records.backup_records import record_backup
from visual_memory.services.removal.intake_contract import NoIntake, QueuedEntry


def use_case(parts: Parts) -> PreviewRemoval:
    stores = parts.stores()
    return PreviewRemoval(
        parts.memory, stores.intake, stores.decisions, stores.evaluations, stores.explanation_jobs, stores.judgements
    )


def request(**where: Any) -> RemovalRequest:
    return RemovalRequest(filter=Filter.model_validate(where), everything=not where, reason="only looking")


def preview(parts: Parts, **where: Any) -> RemovalPreview:
    return use_case(parts)(parts.tenant, request(**where), show_file_names=True).preview


def test_it_counts_images_and_what_else_goes(parts: Parts) -> None:
    hers = parts.teach(picture("disc"), labels=["a"], subject="ann", source="x", file_name="ann.png")
    hers += parts.teach(picture("bars"), labels=["a", "b"], subject="ann")
    parts.teach(picture("cross"), labels=["b"], subject="bob", source="x")
    parts.keep(picture("disc"), k=1)
    parts.keep(picture("cross"), k=1)
    stores = parts.stores()
    stores.evaluations.create(parts.tenant, EvaluationRequest(), "encoder", "a test")
    stores.explanation_jobs.create(parts.tenant, JobKind.INFLUENCE, ExplanationRequest(last=9), "a test")
    parts.judge()

    found = preview(parts, subject="ann")
    assert (found.images, found.by_state, found.queued) == (2, {State.REMEMBERED: 2}, 0)
    assert list(found.by_label.items()) == [("a", 2), ("b", 1)]
    assert found.by_source == {"x": 1}
    assert {each.image_id for each in found.samples} == {*hers}
    state, name = State.REMEMBERED, "ann.png"
    assert SampleImage(image_id=hers[0], file_name=name, labels=["a"], state=state) in found.samples
    assert (found.decisions, found.evaluations, found.explanations, found.judgement) == (1, 1, 1, True)
    assert (found.is_estimate, found.backups) == (False, [])
    assert len(parts.held(*hers)) == 2
    assert preview(parts).decisions == 2

    hidden, subjects = use_case(parts)(parts.tenant, request(subject="ann"), show_file_names=False)
    assert {each.file_name for each in hidden.samples} == {None}
    assert subjects == {"ann"}
    nobody = preview(parts, subject="nobody")
    assert (nobody.images, nobody.samples, nobody.decisions, nobody.evaluations) == (0, [], 0, 0)
    assert (nobody.explanations, nobody.judgement) == (0, False)
    with pytest.raises(InvalidFilter):
        preview(parts, colour="red")


def test_it_shows_twenty_samples_and_says_where_it_had_no_time(parts: Parts) -> None:
    parts.teach(*(picture("disc") for _ in range(21)), labels=["a"])
    parts.keep(picture("disc"), k=1)
    assert len(preview(parts, labels="a").samples) == 20
    hasty, _ = replace(use_case(parts), search_seconds=-1.0)(parts.tenant, request(labels="a"), show_file_names=True)
    assert (hasty.is_estimate, hasty.decisions, hasty.images) == (True, 0, 21)


def test_it_names_the_backups_that_may_hold_the_images(parts: Parts) -> None:
    long_ago = now() - timedelta(days=3)
    with parts.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM backups")
    [old] = parts.teach(picture("disc"), labels=["a"])
    record_backup(parts.database, long_ago)
    [begun] = preview(parts, image_id=old).backups
    assert begun == long_ago
    accepted = parts.held(old)[0].accepted_at
    earlier = f"UPDATE backups SET ended_at = '{accepted - timedelta(hours=1):%Y-%m-%d %H:%M:%S.%f}'"
    with parts.database.write() as connection:
        connection.exec_driver_sql(earlier)
    assert preview(parts, image_id=old).backups == []
    record_backup(parts.database, accepted)
    assert preview(parts).backups == [accepted]
    assert preview(parts, image_id="none").backups == []


class Silent(NoIntake):
    """An intake that does not answer."""

    def up_to(self, _tenant: str, _position: str) -> Iterator[Sequence[QueuedEntry]]:
        raise Unavailable("the intake does not answer")


def test_without_an_answer_of_the_intake_it_says_so(parts: Parts) -> None:
    parts.intake = Silent()
    assert preview(parts).queued is None
