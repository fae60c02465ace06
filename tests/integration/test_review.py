"""The review queue: what comes first, marks, claims, and removals that leave nothing of their images in it."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Table, select, update

from tests.support.databases import KINDS, new_database
from tests.support.shape_pictures import picture
from tests.support.wired_service import Parts
from visual_memory.schemas.errors import InvalidCursor, NotFound
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import Doubt, State
from visual_memory.schemas.judgement import Suspect
from visual_memory.schemas.moments import now
from visual_memory.schemas.page import Page, PageRequest
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.schemas.review import ItemName, ReviewItem, ReviewKind
from visual_memory.services.bootstrap.wiring.wire_use_cases import wire_review
from visual_memory.services.infrastructure.records.tables import decisions, review_claims, review_marks
from visual_memory.services.memory.points.point_filters import same_pictures
from visual_memory.services.removal.covered_image_records import CoveredImages, to_covered_image
from visual_memory.services.review.claim_items import Claimant
from visual_memory.services.review.review_queue import Review
from visual_memory.services.vector_engines.engine_contract import SetPayload

ANN, BOB = Claimant("1", "ann (key 1)"), Claimant("2", "bob (key 2)")


def review_of(parts: Parts, database: object = None) -> Review:
    stores = parts.stores(database=database)
    return wire_review(stores.removals.database, parts.memory, stores)


def names(page: Page[ReviewItem]) -> list[tuple[str, str]]:
    return [(item.kind.value, item.id) for item in page.data]


def doubt_label(parts: Parts, image_id: str, doubt: Doubt) -> None:
    """Hold a remembered image, or warn of it, as the label check does."""
    state = State.MUTED if doubt is Doubt.HELD else State.REMEMBERED
    fields = {"doubt": doubt.value, "state": state.value, "reason": "its 5 nearest neighbours vote for dog"}
    parts.memory.points.write([SetPayload(fields, same_pictures(parts.held(image_id)))])


def decide(parts: Parts, label: str | None, margin: float) -> str:
    """Keep a decision with a label and a margin."""
    [decision] = parts.keep(picture("bars"))
    where = decisions.c.id == decision.id
    with parts.database.write() as connection:
        connection.execute(update(decisions).where(where).values(label=label, margin=margin))
    return str(decision.id)


def judge(parts: Parts) -> list[Suspect]:
    """Teach and judge discs of which one has another label; the suspects."""
    parts.teach(*(picture("disc") for _ in range(6)), labels=["disc"])
    parts.teach(picture("disc"), labels=["bars"], image_id="wrong")
    judgement = parts.judge()
    assert judgement is not None
    return judgement.suspects


def fill(parts: Parts) -> list[tuple[str, str]]:
    """Fill the queue; the items in its order, without the suspects."""
    parts.teach(picture("cross"), image_id="held")
    parts.teach(picture("cross"), image_id="warned")
    doubt_label(parts, "held", Doubt.HELD)
    doubt_label(parts, "warned", Doubt.WARNED)
    decide(parts, "cat", 0.5)
    first, tie, close = decide(parts, None, 0.7), decide(parts, "cat", 0.0), decide(parts, "cat", 0.15)
    last = decide(parts, None, 0.0)
    found = [("image", "held"), ("decision", tie), ("image", "warned")]
    return [*found, *(("decision", each) for each in (last, first, close))]


def pages(review: Review, tenant: str, limit: int) -> list[Page[ReviewItem]]:
    found, cursor = list[Page[ReviewItem]](), None
    while True:
        found.append(review.list(tenant, PageRequest(limit, cursor)))
        cursor = found[-1].next_cursor
        if cursor is None:
            return found


def test_what_is_most_worth_a_look_comes_first_and_every_item_once(parts: Parts) -> None:
    suspects = judge(parts)
    expected, review = fill(parts), review_of(parts)
    whole = review.list(parts.tenant, PageRequest(total=True))
    assert [each for each in names(whole) if each[0] != "suspect"] == expected
    assert len(suspects) > 1
    assert {each for each in names(whole) if each[0] == "suspect"} == {
        ("suspect", f"{each.suspicion}:{each.image_id}") for each in suspects
    }
    assert [item.score for item in whole.data] == sorted((item.score for item in whole.data), reverse=True)
    assert (whole.total, whole.total_is_estimate) == (len(whole.data), False)
    for limit in (1, 2, 3):
        assert [item for page in pages(review, parts.tenant, limit) for item in page.data] == whole.data
    only = review.list(parts.tenant, kind=ReviewKind.DECISION)
    assert names(only) == [each for each in expected if each[0] == "decision"]
    with pytest.raises(InvalidCursor):
        review.list(parts.tenant, PageRequest(cursor="x"))
    assert review.list("another").data == []


def test_a_mark_counts_until_the_image_changes(parts: Parts) -> None:
    judge(parts)
    expected, review = fill(parts), review_of(parts)
    before = names(review.list(parts.tenant))
    suspect = next(ItemName(kind=ReviewKind(kind), id=item) for kind, item in before if kind == "suspect")
    marked = [suspect, *(ItemName(kind=ReviewKind(kind), id=item) for kind, item in expected[:2])]
    for name in [*marked, *marked]:
        assert review.marks.mark(parts.tenant, name, "ann").reviewed_by == "ann"
    left = review.list(parts.tenant, PageRequest(total=True))
    assert names(left) == [each for each in before if each not in {(name.kind.value, name.id) for name in marked}]
    assert left.total == len(left.data)
    every = review.list(parts.tenant, PageRequest(total=True), reviewed=True)
    assert (names(every), every.total) == (before, len(before))
    assert {item.reviewed_by for item in every.data} == {"ann", None}
    review.marks.unmark(parts.tenant, marked[1])
    review.marks.unmark(parts.tenant, marked[1])
    assert ("image", "held") in names(review.list(parts.tenant))
    review.marks.mark(parts.tenant, marked[1], "bob")
    doubt_label(parts, "held", Doubt.WARNED)
    assert ("image", "held") in names(review.list(parts.tenant)), "something else was done to it"


@pytest.mark.parametrize("kind", ReviewKind)
def test_what_does_not_exist_is_not_marked(parts: Parts, kind: ReviewKind) -> None:
    marks = review_of(parts).marks
    for act in (lambda name: marks.mark(parts.tenant, name, "ann"), lambda name: marks.unmark(parts.tenant, name)):
        with pytest.raises(NotFound):
            act(ItemName(kind=kind, id="label:none"))


def test_two_people_do_not_review_the_same(parts: Parts) -> None:
    expected, review = fill(parts), review_of(parts)
    first = review.claims.next(parts.tenant, ANN, 2)
    assert [(item.kind.value, item.id) for item in first] == expected[:2]
    assert review.claims.next(parts.tenant, ANN, 2) != first, "for another minute"
    assert names(Page.whole(review.claims.next(parts.tenant, BOB, 9))) == expected[2:]
    assert [item.claimed_by for item in review.list(parts.tenant).data] == [ANN.name] * 2 + [BOB.name] * 4
    named = [ItemName(kind=ReviewKind(kind), id=item) for kind, item in [*expected[1:3], ("image", "none")]]
    assert names(Page.whole(review.claims.named(parts.tenant, BOB, named))) == expected[2:3]
    with parts.database.write() as connection:
        over = review_claims.c.key == ANN.key
        connection.execute(update(review_claims).where(over).values(until=now() - timedelta(seconds=1)))
    assert [item.claimed_by for item in review.list(parts.tenant).data][:2] == [None, None]
    assert len(review.claims.next(parts.tenant, BOB, 2)) == 2
    review.claims.release(parts.tenant, BOB.key)
    assert {item.claimed_by for item in review.list(parts.tenant).data} == {None}
    review.claims.next(parts.tenant, ANN, 1)
    review.marks.mark(parts.tenant, named[0], ANN.name)
    review.marks.mark(parts.tenant, ItemName(kind=ReviewKind.IMAGE, id="held"), ANN.name)
    assert rows(parts, review_claims) == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_item_is_given_to_two_at_once(parts: Parts, kind: str, tmp_path: Path) -> None:
    with new_database(kind, tmp_path / "other") as database:
        there = replace(parts.decisions(), database=database)
        for _ in range(20):
            parts.keep(picture("bars"), decisions=there)
        with database.write() as connection:
            connection.execute(update(decisions).values(label=None))
        review = wire_review(database, parts.memory, parts.stores())
        callers = [Claimant(str(number), f"caller {number}") for number in range(6)]
        with ThreadPoolExecutor(len(callers)) as pool:
            held = [*pool.map(lambda caller: review.claims.next(parts.tenant, caller, 5), callers)]
        counts = Counter(item.id for some in held for item in some)
        assert (len(counts), set(counts.values())) == (20, {1})


def rows(parts: Parts, table: Table) -> list[tuple[str, str]]:
    with parts.database.read() as connection:
        return [(row.kind, row.record) for row in connection.execute(select(table))]


def mark_and_claim_all(parts: Parts) -> None:
    review = review_of(parts)
    items = review.list(parts.tenant).data
    for item in items:
        review.marks.mark(parts.tenant, ItemName(kind=item.kind, id=item.id), "ann")
    review.claims.named(parts.tenant, ANN, [ItemName(kind=item.kind, id=item.id) for item in items])


def test_a_removal_leaves_no_mark_and_no_claim_of_its_images(parts: Parts) -> None:
    """Promise 2: marks and claims name images; those of a decision end with it."""
    judge(parts)
    fill(parts)
    mark_and_claim_all(parts)
    before = {table.name: rows(parts, table) for table in (review_marks, review_claims)}
    reviews, covered = parts.stores().remove_from_reviews, CoveredImages.of(parts.held("held", "wrong"))
    assert [reviews.count_covered(parts.tenant, page) for page in covered] == [0], "they are there still"
    parts.remove(RemovalRequest(filter=Filter({"image_id": ["held", "wrong"]}), reason="asked to"))
    for table in (review_marks, review_claims):
        left = rows(parts, table)
        assert left == [each for each in before[table.name] if each[1].split(":")[-1] not in {"held", "wrong"}]
        assert len(left) < len(before[table.name]) > 6
    assert [reviews.count_covered(parts.tenant, page) for page in covered] == [0]
    parts.database.erase_deleted()
    assert b"label:wrong" not in (parts.folder / "records.db").read_bytes()
    for each in parts.decisions().summaries(parts.tenant).data:
        parts.decisions().delete(parts.tenant, each.id)
    assert {kind for table in (review_marks, review_claims) for kind, _ in rows(parts, table)} == {"image", "suspect"}


def test_a_mark_that_is_written_while_its_image_is_removed_goes_with_it(parts: Parts) -> None:
    """The image is read under a lock that the removal waits for, so either it is gone or the removal sees the mark."""
    fill(parts)
    name = ItemName(kind=ReviewKind.IMAGE, id="held")
    removed = RemovalRequest(filter=Filter({"image_id": "held"}), reason="asked to")
    with ThreadPoolExecutor(1) as pool:
        waiting = []

        def remove_meanwhile(_connection: Connection, _item: str) -> None:
            waiting.append(pool.submit(parts.remove, removed))
            time.sleep(0.2)

        review_of(parts).marks.mark(parts.tenant, name, "ann", remove_meanwhile)
        waiting[0].result()
    assert rows(parts, review_marks) == []
    with pytest.raises(NotFound):
        review_of(parts).marks.mark(parts.tenant, name, "ann")


def test_after_a_restore_no_claim_and_no_mark_of_a_missing_image_is_left(parts: Parts) -> None:
    fill(parts)
    mark_and_claim_all(parts)
    [warned] = parts.held("warned")
    parts.memory.writes.delete([warned])
    reviews, covered = parts.stores().remove_from_reviews, [to_covered_image(warned)]
    assert reviews.count_covered(parts.tenant, covered) == 2, "a mark and a claim"
    assert reviews.reconcile_all() == 1
    assert reviews.count_covered(parts.tenant, covered) == 0
    assert rows(parts, review_claims) == []
    assert sorted(kind for kind, _ in rows(parts, review_marks)) == ["decision"] * 4 + ["image"]
    assert ("image", "warned") not in rows(parts, review_marks)


def test_a_page_of_reviewed_images_ends_early(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images were looked at, a page reads only so many of them."""
    monkeypatch.setattr("visual_memory.services.review.list_review.EXAMINED", 2)
    ids = parts.teach(*(picture("cross") for _ in range(6)))
    review = review_of(parts)
    for image_id in ids:
        doubt_label(parts, image_id, Doubt.HELD)
        if image_id != ids[0]:
            review.marks.mark(parts.tenant, ItemName(kind=ReviewKind.IMAGE, id=image_id), "ann")
    found = pages(review, parts.tenant, 1)
    assert len(found) > 1
    assert [item.id for page in found for item in page.data] == [ids[0]]
