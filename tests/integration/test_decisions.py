"""Promises 2, 3 and 6 for stored decisions: they count to themselves, and nothing that was removed stays in them."""

import base64
from datetime import timedelta
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.decision import ClassifyOptions, Effort, GroupBy, Vote
from schemas.errors import Blocked, NotFound, Unavailable
from schemas.image import now
from schemas.question import ReplayRequest, StoredDecision
from schemas.removal import RemovalRequest
from services.answers.decisions import StoredDecisions, vector_of
from services.decision.votes import decide
from services.forgetting.covered_images import CoveredImages, Note
from services.forgetting.tidy import Tidy
from tests.shapes import picture

from .support import Hooked, Once, Parts

MARK = "Mark-Of-Label"


def remove(parts: Parts, decisions: StoredDecisions | None = None, **request: Any) -> None:
    forget = parts.forget(decisions=decisions)
    asked = RemovalRequest.model_validate({"reason": "asked to", **request})
    forget.carry_on(parts.tenant, forget.request(parts.tenant, asked, "a test").id)


def stored(parts: Parts, decision_id: str | None) -> StoredDecision:
    return parts.decisions().load(parts.tenant, str(decision_id))


def decision_files(parts: Parts) -> list[bytes]:
    return [path.read_bytes() for path in (parts.folder / "records" / "decisions").rglob("*") if path.is_file()]


def mentions(parts: Parts, *words: str) -> list[str]:
    """Which of some words stand in the files of decisions."""
    return [word for word in words if any(word.encode() in data for data in decision_files(parts))]


def teach_three(parts: Parts) -> tuple[list[str], bytes]:
    """Two marked images and one that stays, and a picture that is nearest to the marked ones."""
    gone = parts.teach(picture("disc"), picture("disc"), labels=[MARK], subject="ann")
    kept = parts.teach(picture("bars"), labels=["bars"], subject="bob")
    return [*gone, *kept], picture("disc")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    options=st.builds(
        ClassifyOptions,
        vote=st.sampled_from(Vote),
        k=st.integers(1, 5),
        alpha=st.floats(0.1, 10),
        temperature=st.floats(0.05, 2),
        search=st.just(Effort.EXACT),
    ),
    labels=st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True), max_size=6),
)
def test_what_is_read_back_counts_to_itself(parts: Parts, options: ClassifyOptions, labels: list[list[str]]) -> None:
    each = Parts(parts.folder, parts.memory, parts.pool)
    for number, some in enumerate(labels):
        each.teach(picture(("disc", "bars", "cross")[number % 3]), labels=some)
    [decision] = each.keep(picture("disc"), **options.model_dump())
    held = stored(each, decision.id)
    assert held.decision == decision
    counted = decide(held.decision.neighbours, held.options, held.decision.encoder)
    assert counted.model_copy(update={"id": decision.id, "reason": decision.reason}) == held.decision


def test_it_is_kept_with_what_it_takes_to_ask_again(parts: Parts) -> None:
    teach_three(parts)
    before, data = now(), picture("disc")
    [decision] = parts.keep(data, asked_by="me")
    held = stored(parts, decision.id)
    assert (held.asked_by, held.content_hash, held.scrubbed) == ("me", sha256(data).hexdigest(), 0)
    assert before <= held.asked_at <= now()
    assert np.array_equal(vector_of(held), parts.classify().embed(parts.tenant, [data])[0])
    assert len(base64.b64decode(held.query)) == 4 * parts.memory.dimension


@pytest.mark.parametrize(("exact", "search"), [(True, Effort.EXACT), (False, Effort.BALANCED)])
def test_what_was_kept_with_former_options_is_read_too(parts: Parts, exact: bool, search: Effort) -> None:
    teach_three(parts)
    [kept] = parts.keep(picture("disc"))
    [key] = parts.ledger.list(f"decisions/{parts.tenant}/{kept.id}")
    record = parts.ledger.get(key)
    options = record["decision"]["options"] = record.pop("options")
    del options["search"], options["group_by"]
    options["exact"] = exact
    parts.ledger.put(key, record)
    held = stored(parts, kept.id)
    assert (held.options.search, held.options.group_by) == (search, GroupBy.NONE)
    assert held.decision == kept
    assert parts.question().replay(parts.tenant, str(kept.id), ReplayRequest()).options.group_by is GroupBy.NONE


def test_the_latest_come_first_and_the_oldest_go(parts: Parts) -> None:
    parts.teach(picture("disc"), labels=["disc"])
    parts.teach(picture("bars"), labels=["bars"])
    decisions = parts.decisions(keep=3)
    ids = [
        parts.keep(picture(kind), decisions=decisions, k=1)[0].id for kind in ("disc", "bars", "disc", "disc", "bars")
    ]
    assert [each.id for each in decisions.latest(parts.tenant, 10)] == ids[:1:-1]
    assert [each.id for each in decisions.latest(parts.tenant, 2)] == [ids[4], ids[3]]
    assert [each.id for each in decisions.latest(parts.tenant, 1, "disc")] == [ids[3]]
    with pytest.raises(NotFound):
        stored(parts, ids[0])
    for decision_id in ids[2:]:
        decisions.delete(parts.tenant, str(decision_id))
    for _ in range(4):
        parts.keep(picture("disc"), decisions=decisions)
    assert parts.ledger.list("decisions-gone/") == [], "what is older than all that is kept needs no mark"


def test_each_tenant_has_its_own(parts: Parts) -> None:
    teach_three(parts)
    other = Parts(parts.folder, parts.memory, parts.pool)
    [decision] = parts.keep(picture("disc"))
    assert list(other.decisions().latest(other.tenant, 10)) == []
    with pytest.raises(NotFound):
        stored(other, decision.id)
    remove(other, everything=True)
    assert stored(parts, decision.id).scrubbed == 0


@pytest.mark.parametrize("wrong", ["", "x", "..", "../../keys", "20260101T000000000000-0000000g", "a/b"])
def test_what_is_no_id_is_not_found(parts: Parts, wrong: str) -> None:
    with pytest.raises(NotFound):
        stored(parts, wrong)


def test_a_removal_leaves_no_trace_in_a_decision(parts: Parts) -> None:
    ids, question = teach_three(parts)
    [decision] = parts.keep(question)
    assert decision.label == MARK
    assert mentions(parts, *ids, MARK) == [*ids, MARK]
    similarities = [f"{each.similarity!r}" for each in decision.neighbours]

    remove(parts, filter={"subject": "ann"})
    assert mentions(parts, *ids, MARK) == ids[2:]
    assert mentions(parts, *similarities[:2]) == []
    held = stored(parts, decision.id)
    assert (held.scrubbed, held.decision.label, held.decision.voters) == (2, "bars", 1)
    counted = decide(held.decision.neighbours, held.options, held.decision.encoder)
    assert counted.model_copy(update={"id": decision.id}) == held.decision

    remove(parts, filter={"subject": "bob"})
    held = stored(parts, decision.id)
    assert (held.scrubbed, held.decision.label, held.decision.neighbours) == (3, None, [])
    assert held.decision.reason == "every image that voted is gone"


def test_what_is_covered_is_taken_out_whether_it_is_sought_at_once_or_in_parts(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.answers.decisions.SOUGHT_AT_ONCE", 1)
    ids, question = teach_three(parts)
    same = [parts.pictures.read(image.picture) for image in parts.held(*ids[:2])]
    decision, *asked_with_them = (parts.keep(each)[0] for each in (question, *same))
    notes = [Note.model_validate(image, from_attributes=True) for image in parts.held(*ids[:2])]
    parts.memory.delete(parts.held(*ids[:2]))
    parts.decisions().forget(parts.tenant, CoveredImages(lambda: [[note] for note in notes]))
    for gone in asked_with_them:
        with pytest.raises(NotFound):
            stored(parts, gone.id)
    assert stored(parts, decision.id).scrubbed == 2
    assert mentions(parts, *ids, MARK) == ids[2:]


def test_a_decision_on_what_is_removed_goes_whole(parts: Parts) -> None:
    ids, _ = teach_three(parts)
    same = parts.pictures.read(parts.held(ids[0])[0].picture)
    [asked_with_it] = parts.keep(same, filter={"subject": "bob"})
    [named_it] = parts.keep(picture("disc"), filter={"image_id": [ids[0], ids[2]]})
    [neither] = parts.keep(picture("disc"))
    remove(parts, filter={"image_id": ids[0]})
    for gone in (asked_with_it, named_it):
        with pytest.raises(NotFound):
            stored(parts, gone.id)
    assert stored(parts, neither.id).scrubbed == 1
    assert mentions(parts, ids[0], sha256(same).hexdigest()) == []


def test_of_a_blocked_picture_nothing_is_kept(parts: Parts) -> None:
    teach_three(parts)
    parts.teach(blocked := picture("cross"), subject="eve")
    remove(parts, filter={"subject": "eve"}, block=True)
    with pytest.raises(Blocked):
        parts.keep(picture("disc"), blocked)
    assert decision_files(parts) == []


def test_a_removal_before_the_write_is_seen_after_it(parts: Parts) -> None:
    """It is carried out whole, hook and all, after the neighbours were read and before the decision is written."""
    ids, question = teach_three(parts)
    race = Once("put", lambda: remove(parts, filter={"subject": "ann"}))
    [decision] = parts.keep(question, decisions=parts.decisions(ledger=Hooked(parts.ledger, race)))
    assert race.called
    assert mentions(parts, *ids[:2], MARK) == []
    assert stored(parts, decision.id).scrubbed == 2


def test_a_removal_between_the_write_and_the_check_is_seen_by_both(parts: Parts) -> None:
    ids, question = teach_three(parts)
    race = Once("put", lambda: remove(parts, filter={"subject": "ann"}))
    [decision] = parts.keep(question, decisions=parts.decisions(ledger=Hooked(parts.ledger, after=race)))
    assert mentions(parts, *ids[:2], MARK) == []
    assert stored(parts, decision.id).scrubbed == 2


def test_an_image_that_came_back_under_its_id_is_not_the_one_that_voted(parts: Parts) -> None:
    ids, question = teach_three(parts)

    def replace() -> None:
        remove(parts, filter={"subject": "ann"})
        parts.teach(picture("disc"), image_id=ids[0], labels=["new"])

    [decision] = parts.keep(question, decisions=parts.decisions(ledger=Hooked(parts.ledger, Once("put", replace))))
    assert mentions(parts, *ids[:2], MARK) == []
    assert stored(parts, decision.id).scrubbed == 2


def test_two_removals_at_once_bring_nothing_of_each_other_back(parts: Parts) -> None:
    """One writes what it read before the other was carried out whole."""
    ids, question = teach_three(parts)
    [decision] = parts.keep(question)
    race = Once("put", lambda: remove(parts, filter={"image_id": ids[1]}))
    remove(parts, parts.decisions(ledger=Hooked(parts.ledger, race)), filter={"image_id": ids[0]})
    assert race.called
    assert mentions(parts, *ids[:2], MARK) == []
    assert stored(parts, decision.id).scrubbed == 2


def test_a_decision_deleted_while_it_is_scrubbed_stays_away(parts: Parts) -> None:
    ids, question = teach_three(parts)
    [decision] = parts.keep(question)
    race = Once("put", lambda: parts.decisions().delete(parts.tenant, str(decision.id)))
    remove(parts, parts.decisions(ledger=Hooked(parts.ledger, race)), filter={"image_id": ids[0]})
    assert race.called
    assert decision_files(parts) == []


def test_what_cannot_be_checked_is_not_kept(parts: Parts) -> None:
    _, question = teach_three(parts)

    def fail(name: str) -> None:
        if name == "get":
            raise Unavailable("the store does not answer")

    with pytest.raises(Unavailable):
        parts.keep(question, decisions=parts.decisions(memory=Hooked(parts.memory, fail)))
    assert decision_files(parts) == []


def test_of_what_was_stored_before_the_last_time_nothing_is_read(parts: Parts) -> None:
    ids, question = teach_three(parts)
    [first], between, [second] = parts.keep(question), now(), parts.keep(question)
    records = {key: parts.ledger.get(key) for key in parts.ledger.list("decisions/")}
    remove(parts, filter={"subject": "ann"})
    for key, record in records.items():
        parts.ledger.put(key, record)
    assert parts.decisions().settle_all(since=between) == 0
    assert [stored(parts, each.id).scrubbed for each in (first, second)] == [0, 2]
    assert mentions(parts, *ids[:2]) == ids[:2]
    assert parts.decisions().settle_all() == 0
    assert mentions(parts, *ids[:2]) == []


def test_what_a_kill_between_write_and_check_left_goes_when_it_is_tidied(parts: Parts) -> None:
    ids, question = teach_three(parts)
    [decision] = parts.keep(question)
    [key] = parts.ledger.list("decisions/")
    as_written = parts.ledger.get(key)
    remove(parts, filter={"subject": "ann"})
    parts.ledger.put(key, as_written)  # by a process that is killed before it looks again
    assert mentions(parts, *ids[:2], MARK) == [*ids[:2], MARK]
    Tidy(parts.memory, parts.pictures, parts.ledger, timedelta(hours=1), [parts.decisions().settle_all])()
    assert mentions(parts, *ids[:2], MARK) == []
    assert stored(parts, decision.id).scrubbed == 2
