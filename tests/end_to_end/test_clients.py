"""Both clients call every endpoint of a running service."""

import io
import zipfile
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np
import pytest

from tests.support.awaited_client import CLIENTS
from tests.support.running_service import ENCODER, Stack, unique, until
from tests.support.shape_pictures import picture
from visual_memory.schemas.background_job import JobState
from visual_memory.schemas.bulk_request import BulkAction, BulkRequest
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.curation_request import Action, CurationRequest
from visual_memory.schemas.errors import Blocked, NotFound, PreconditionFailed
from visual_memory.schemas.evaluation_request import EvaluationRequest
from visual_memory.schemas.event import EventType
from visual_memory.schemas.explanation import Counterfactual, DecisionPreviewRequest, Influence
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import Image, ImageFields, ImagePatch, State
from visual_memory.schemas.removal import Removal, RemovalRequest
from visual_memory.services.client.http_client import Client

KINDS = ("disc", "bars")
NUMBER = 3


@pytest.fixture(params=CLIENTS)
def client(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of each class, with a tenant of its own."""
    with request.param(stack.url, stack.new_key(unique("clients"))) as made:
        yield made


def teach(client: Client) -> list[Image]:
    """Images of two classes, once they are remembered."""
    sent = [(picture(kind), ImageFields(labels=[kind], subject=f"{kind}-owner")) for kind in KINDS * NUMBER]
    assert len(client.add(sent)) == len(sent)

    def remembered() -> list[Image]:
        images = list(client.iterate(client.images, limit=5))
        return images if {each.state for each in images} == {State.REMEMBERED} else []

    return until(remembered, "all images to be remembered")


def test_images_are_taught_and_amended(client: Client) -> None:
    images = teach(client)
    assert len(images) == 2 * NUMBER
    seen = client.image(images[0].image_id)
    changed = client.amend(seen.image_id, ImagePatch(source="a"), seen)
    assert isinstance(changed, Image)
    assert changed.source == "a"
    with pytest.raises(PreconditionFailed):
        client.amend(seen.image_id, ImagePatch(source="b"), seen)
    assert client.picture(seen.image_id)
    assert {each.label: each.images for each in client.labels().data} == dict(zip(KINDS, repeat(NUMBER), strict=False))
    assert [each.image_id for each in client.images(Filter({"source": "a"})).data] == [seen.image_id]


def test_images_are_listed_in_an_order_and_by_their_similarity(client: Client) -> None:
    oldest, *_ = images = sorted(teach(client), key=lambda each: each.accepted_at)
    first = client.images(sort="accepted_at", limit=2, total=True)
    assert (first.total, first.total_is_estimate, first.has_more) == (len(images), False, True)
    latest_first = list(client.iterate(client.images, limit=4))
    assert [each.accepted_at for each in latest_first] == [each.accepted_at for each in images[::-1]]
    of_disc = Filter({"labels": "disc"})
    walked = list(client.iterate(client.search, of_disc, sort="-accepted_at", limit=1))
    assert [each.image_id for each in walked] == [each.image_id for each in latest_first if each.labels == ["disc"]]
    similar = client.search(of_disc, similar_to=oldest.image_id, limit=2).data
    assert oldest.image_id not in {each.image_id for each in similar}
    scores = [each.similarity or 0 for each in similar]
    assert len(scores) == 2
    assert 1 >= scores[0] >= scores[1] > 0


def test_what_happens_is_heard(client: Client) -> None:
    events = client.events(cursor="1-1")
    assert next(events).type == EventType.RESYNC, "nothing is stored under this cursor"
    client.add([(picture("disc"), ImageFields(labels=["a-label"], image_id="one", subject="Ann", file_name="ann.png"))])
    accepted, remembered = next(events), next(events)
    assert (accepted.type, accepted.image_ids) == (EventType.ACCEPTED, ["one"])
    assert (remembered.type, remembered.count, remembered.encoder) == (EventType.REMEMBERED, 1, ENCODER)
    client.amend("one", ImagePatch(source="b"))
    amended = next(events)
    assert (amended.type, amended.image_ids) == (EventType.AMENDED, ["one"])
    client.remove_image("one")
    removed = next(events)
    assert (removed.type, removed.count, removed.image_ids) == (EventType.REMOVED, 1, None)
    job = client.judge()
    heard = [next(client.events([EventType.JUDGED], removed.cursor))]
    assert [(each.type, each.job_id) for each in heard] == [(EventType.JUDGED, job.id)]
    later = client.events(cursor=accepted.cursor)
    assert [next(later).image_ids for _ in range(3)] == [None] * 3, "what is removed is not named any more"
    told = [accepted, remembered, amended, removed, *heard]
    assert not any(word in each.model_dump_json() for each in told for word in ("a-label", "Ann", "ann.png"))


def test_vectors_are_taught_and_classified(client: Client) -> None:
    [encoder] = [each for each in client.encoders().data if each.name == ENCODER]
    vectors = np.eye(3, encoder.dimension, dtype=np.float32)
    fields = [ImageFields(labels=[f"axis-{number}"]) for number in range(3)]
    assert [each.state for each in client.add_vectors(ENCODER, vectors, fields)] == [State.REMEMBERED] * 3
    found = client.classify_vectors(vectors.tolist(), ClassifyOptions(k=1), ENCODER).decisions
    assert [each.label for each in found] == ["axis-0", "axis-1", "axis-2"]


def test_decisions_are_explained(client: Client) -> None:
    teach(client)
    [made] = client.classify([picture("disc")], ClassifyOptions(k=5, store=True)).decisions
    assert made.label == "disc"
    [summary] = client.decisions(label="disc").data
    stored = client.decision(summary.id)
    assert stored.decision.label == "disc"
    assert not client.replay(stored.id).changed
    assert isinstance(client.counterfactual(stored.id), Counterfactual)
    assert isinstance(client.influence(), Influence)
    request: dict[str, Any] = {"filter": {"labels": "disc"}, "action": "mute"}
    assert client.preview_change(DecisionPreviewRequest.model_validate(request))
    client.delete_decision(stored.id)
    with pytest.raises(NotFound):
        client.decision(stored.id)
    with pytest.raises(NotFound):
        client.job("a")


def test_the_memory_is_judged_and_curated(client: Client) -> None:
    teach(client)
    assert client.suspects().data == []
    job = client.judge()
    status = until(lambda: found if (found := client.judgement()).current else None, "the judgement")
    assert status.job is not None
    assert status.job.kind is job.kind
    assert job.id in {each.id for each in client.jobs().data}
    where = Filter({"labels": "disc"})
    muting = CurationRequest(action=Action.MUTE, filter=where)
    assert client.preview_curation(muting).images == NUMBER
    made = client.curate(muting)
    assert (made.images, client.change(made.id), client.changes().data) == (NUMBER, made, [made])
    assert client.undo(made.id).images == NUMBER
    renamed = BulkRequest(action=BulkAction.AMEND, filter=where, patch=ImagePatch(source="elsewhere"))
    assert client.preview_bulk(renamed).images == client.bulk(renamed).images == NUMBER
    assert len([*client.iterate(client.changes, limit=1)]) == 3


def test_images_are_removed(client: Client) -> None:
    images = teach(client)
    where = Filter({"subject": "disc-owner"})
    request = RemovalRequest(filter=where, reason="a test", block=True)
    assert client.preview_removal(request).images == NUMBER

    def done(removal: Removal) -> Removal:
        return until(lambda: found if (found := client.removal(removal.id)).receipt else None, "the receipt")

    removed = done(client.remove(request))
    assert removed.images == NUMBER
    assert client.receipt(removed.id) == removed.receipt
    assert client.receipt_key()
    assert client.is_receipt_of(removed.id, where)
    assert not client.is_receipt_of(removed.id, Filter({"subject": "another"}))
    left = next(each for each in images if each.subject == "bars-owner")
    one = done(client.remove_image(left.image_id, client.image(left.image_id)))
    assert [each.id for each in client.removals().data] == [one.id, removed.id]
    first = client.removals(limit=1, total=True)
    assert ([each.id for each in first.data], first.has_more, first.total) == ([one.id], True, 2)
    assert [each.id for each in client.iterate(client.removals, limit=1)] == [one.id, removed.id]
    with pytest.raises(Blocked):
        client.add([(picture("disc"), ImageFields(labels=["disc"], subject="disc-owner"))])
    assert "remove" in {each.action for each in client.audit().data}


def test_the_memory_is_evaluated(client: Client) -> None:
    teach(client)
    begun = client.evaluate(EvaluationRequest(k=3))
    client.add_to_evaluation(begun.id, [(picture(kind), ImageFields(labels=[kind])) for kind in KINDS])
    client.start_evaluation(begun.id)
    done = until(lambda: job if (job := client.evaluation(begun.id)).state is JobState.DONE else None, "the evaluation")
    assert [each.id for each in client.evaluations().data] == [done.id]
    with zipfile.ZipFile(io.BytesIO(client.report(done.id))) as report:
        assert "report.html" in report.namelist()
    client.delete_evaluation(done.id)
    assert client.evaluations().data == []


def test_the_service_is_ready(client: Client) -> None:
    assert client.readiness()["ready"]
