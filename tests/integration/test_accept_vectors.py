"""Ready-made vectors: remembered at once, by the rules of every image, though without a picture."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.integration.test_backup import place
from tests.support.memory_images import units
from tests.support.shape_pictures import picture
from tests.support.wired_service import LIFETIMES, Hooked, Once, Parts, Pixels, back_up, encoder_spec, restore
from visual_memory.schemas.encoder import FillCounts
from visual_memory.schemas.errors import BeingRemoved, Blocked, InvalidRequest, InvalidVector, NotFound, Unavailable
from visual_memory.schemas.image import Accepted, ImageFields, State, StoredImage, has_picture
from visual_memory.schemas.moments import now
from visual_memory.schemas.removal import Removal, RemovalRequest
from visual_memory.services.intake.accept_vectors import AcceptVectors, Sent
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.missing_vectors import MissingVectors
from visual_memory.services.vector_engines.engine_contract import Vectors

NAME, DIMENSION = Pixels().name, Pixels().dimension
ANOTHER = encoder_spec("another", 7)


def send(
    parts: Parts, vectors: Vectors, *fields: dict[str, Any], memory: object = None, encoder: str = NAME
) -> list[Accepted]:
    """Remember vectors; without fields all are cats."""
    said = [ImageFields.model_validate({"labels": ["cat"], **each}) for each in fields or [{}] * len(vectors)]
    held = cast(Memory, memory or parts.memory)
    return AcceptVectors(parts.accept(held).put, held, NAME)(parts.tenant, Sent(encoder, vectors, said))


def send_another(
    parts: Parts, vectors: Vectors, *fields: dict[str, Any], memory: object = None, name: str = "another"
) -> list[Accepted]:
    """The same of an encoder that was added, which is the only other one that the memory knows."""
    said = [ImageFields.model_validate({"labels": ["cat"], **each}) for each in fields]
    held = cast(Memory, memory or parts.memory)
    accept = AcceptVectors(parts.accept(held).put, held, NAME, {ANOTHER.name: ANOTHER}.get)
    return accept(parts.tenant, Sent(name, vectors, said))


@pytest.fixture
def added(parts: Parts) -> Iterator[Parts]:
    """An installation of its own, with another encoder."""
    with place(parts, None) as own:
        own.memory.open()
        own.memory.points.engine.add_vector(ANOTHER.name, ANOTHER.dimension)
        yield own


def remove(parts: Parts, **request: Any) -> Removal:
    forget = parts.forget()
    asked = RemovalRequest.model_validate({"reason": "asked to", **request})
    return parts.remove(asked, forget)


def rows(number: int, seed: int = 0) -> Vectors:
    return units(number, seed, DIMENSION)


def test_they_vote_at_once_and_are_named_after_their_content(parts: Parts) -> None:
    vectors = rows(3) * np.float32(7)
    accepted = send(parts, vectors, {}, {"labels": ["dog"], "image_id": "rex", "subject": "ann"}, {})
    names = [sha256(row.tobytes()).hexdigest() for row in vectors]
    assert [(each.image_id, each.state) for each in accepted] == [
        (names[0], State.REMEMBERED),
        ("rex", State.REMEMBERED),
        (names[2], State.REMEMBERED),
    ]
    [rex] = parts.held("rex")
    assert (rex.content_hash, rex.encoder, rex.subject, rex.state) == (names[1], NAME, "ann", State.REMEMBERED)
    [[hit]] = parts.memory.search.nearest(parts.tenant, rows(3)[1:2], 1)
    assert (hit.image_id, hit.labels) == ("rex", ("dog",))
    assert hit.similarity == pytest.approx(1, abs=1e-6), "it was brought to length 1"
    assert parts.enqueued == [], "no worker has anything to do"


def test_sent_again_nothing_is_written_but_what_is_said_anew(parts: Parts) -> None:
    vectors = rows(4)
    send(parts, vectors)
    before = {image.image_id: image for image in parts.held(*(each.image_id for each in send(parts, vectors)))}
    written: list[str] = []
    again = Hooked(parts.memory, before=written.append)
    ids = [each.image_id for each in send(parts, vectors, {}, {}, {}, {"labels": ["dog"]}, memory=again)]
    assert [name for name in written if name != "get"] == ["put"]
    after = {image.image_id: image for image in parts.held(*ids)}
    assert [after[each] for each in ids[:3]] == [before[each] for each in ids[:3]]
    changed = after[ids[3]]
    assert (changed.labels, [each.labels for each in changed.history]) == (["dog"], [["cat"]])
    assert changed.picture == before[ids[3]].picture


def test_of_an_id_that_comes_twice_the_last_counts(parts: Parts) -> None:
    vectors = rows(2)
    send(parts, vectors, {"image_id": "one"}, {"image_id": "one", "labels": ["dog"]})
    [[hit]] = parts.memory.search.nearest(parts.tenant, vectors[1:], 1)
    assert (hit.image_id, hit.labels) == ("one", ("dog",))
    assert parts.memory.images.count(parts.tenant) == 1


def test_a_vector_takes_a_picture_s_place_and_the_other_way_round(parts: Parts) -> None:
    parts.teach(picture("disc"), image_id="one")
    assert len(parts.files()) == 1
    send(parts, rows(1), {"image_id": "one"})
    assert parts.files() == set()
    [[hit]] = parts.memory.search.nearest(parts.tenant, rows(1), 1)
    assert hit.similarity == pytest.approx(1, abs=1e-6)
    parts.teach(picture("disc"), image_id="one")
    assert len(parts.files()) == 1
    assert [image.state for image in parts.held("one")] == [State.REMEMBERED]
    [[hit]] = parts.memory.search.nearest(parts.tenant, rows(1), 1)
    assert hit.similarity < 0.99


def ids_near(memory: Memory, tenant: str, vectors: Vectors) -> list[str]:
    return [hits[0].image_id for hits in memory.search.nearest(tenant, vectors, 1) if hits]


def as_first(image: StoredImage) -> StoredImage:
    """The image but for its revision."""
    return image.model_copy(update={"revision": 0})


def test_a_vector_of_another_encoder_is_put_beside_the_first_and_replaces_nothing(added: Parts) -> None:
    other, tenant = added.memory.with_encoder(ANOTHER.name, ANOTHER.dimension), added.tenant
    send(added, rows(3), *({"image_id": f"v{n}"} for n in range(3)))
    before = added.held("v0", "v1", "v2")
    assert other.missing_vectors.counts(tenant) == FillCounts(vectors_only=3)
    theirs = units(4, 9, 7)
    fields: list[dict[str, Any]] = [{"image_id": "v0"}, {"image_id": "v1", "labels": ["dog"]}, {"image_id": "new"}]
    accepted = send_another(added, theirs[:3], *fields)
    assert [each.state for each in accepted] == [State.REMEMBERED] * 3
    after = added.held("v0", "v1", "v2")
    assert [as_first(after[0]), as_first(after[2])] == [before[0], before[2]]
    assert (after[1].picture, after[1].labels, after[1].encoder) == (before[1].picture, ["dog"], NAME)
    assert [each.labels for each in after[1].history] == [["cat"]]
    assert ids_near(other, tenant, theirs[:3]) == ["v0", "v1", "new"]
    assert ids_near(added.memory, tenant, rows(3)) == ["v0", "v1", "v2"]
    assert other.missing_vectors.counts(tenant) == FillCounts(filled=3, vectors_only=1)
    assert added.memory.missing_vectors.counts(tenant) == FillCounts(filled=3, vectors_only=1)
    send_another(added, theirs[3:], {"image_id": "v0"})
    assert ids_near(other, tenant, theirs[3:]) == ["v0"], "it was corrected"
    assert as_first(added.held("v0")[0]) == before[0]
    send(added, rows(1, seed=4), {"image_id": "v0"})
    assert ids_near(other, tenant, theirs[3:]) != ["v0"], "other content takes the place of all vectors"


def test_a_vector_that_overtakes_a_replacement_is_put_beside_what_is_there_now(added: Parts) -> None:
    other, tenant = added.memory.with_encoder(ANOTHER.name, ANOTHER.dimension), added.tenant
    send(added, rows(1), {"image_id": "v"})
    replaces = Once("store", lambda: send(added, rows(1, seed=5), {"image_id": "v"}))
    under = added.memory.with_encoder(ANOTHER.name, ANOTHER.dimension)
    under.missing_vectors = cast(MissingVectors, Hooked(under.missing_vectors, after=replaces))
    memory = Hooked(added.memory)
    memory.with_encoder = lambda *_: under  # type: ignore[attr-defined]
    send_another(added, units(1, 9, 7), {"image_id": "v"}, memory=memory)
    assert replaces.called
    assert ids_near(other, tenant, units(1, 9, 7)) == ["v"]
    [[hit]] = added.memory.search.nearest(tenant, rows(1, seed=5), 1)
    assert hit.similarity == pytest.approx(1, abs=1e-6)


def test_a_vector_of_another_encoder_takes_a_picture_s_place(added: Parts) -> None:
    added.teach(picture("disc"), image_id="one")
    send_another(added, units(1, 9, 7), {"image_id": "one"})
    assert added.files() == set()
    assert added.memory.missing_vectors.counts(added.tenant) == FillCounts(vectors_only=1)


def test_vectors_of_an_encoder_that_the_memory_does_not_have_are_refused(added: Parts) -> None:
    with pytest.raises(InvalidRequest, match=r"of unheard-of \(7 numbers\), the memory holds those of pixels"):
        send_another(added, units(1, 9, 7), {}, name="unheard-of")
    with pytest.raises(
        InvalidRequest, match=r"of another \(8 numbers\), the memory holds those of another \(7 numbers\)"
    ):
        send_another(added, units(1, 9, 8), {})
    added.memory.points.engine.drop_vector(ANOTHER.name)
    with pytest.raises(Unavailable, match="dropped"):
        send_another(added, units(1, 9, 7), {})


def broken(number: float) -> Vectors:
    vectors = rows(3)
    vectors[1] = number
    return vectors


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        ({"encoder": "another"}, InvalidRequest, "of another .48 numbers., the memory holds those of pixels"),
        ({"vectors": rows(3)[:, :-1]}, InvalidRequest, "of pixels .47 numbers."),
        ({"vectors": rows(0)}, InvalidRequest, "0 vectors"),
        ({"vectors": broken(0)}, InvalidVector, "vector 1 is zero"),
        ({"vectors": broken(np.nan)}, InvalidVector, "vector 1 is zero or not finite"),
        ({"vectors": broken(np.inf)}, InvalidVector, "vector 1 is zero or not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused_as_a_whole(
    parts: Parts, given: dict[str, Any], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        send(parts, **{"vectors": rows(3), **given})
    assert parts.memory.images.count(parts.tenant) == 0


def test_fields_that_are_wrong_refuse_all(parts: Parts) -> None:
    for said in ({"expires_at": now()}, {"metadata": {"age": "old"}}):
        with pytest.raises(InvalidRequest):
            send(parts, rows(2), {}, said)
    assert parts.memory.images.count(parts.tenant) == 0


def test_they_live_no_longer_than_their_source_allows(parts: Parts) -> None:
    [short] = parts.held(*(each.image_id for each in send(parts, rows(1), {"source": "short-lived"})))
    assert short.expires_at == short.accepted_at + LIFETIMES["short-lived"]


@pytest.mark.parametrize("said", [{}, {"subject": "ann"}])
def test_what_a_removal_blocked_stays_out(parts: Parts, said: dict[str, Any]) -> None:
    send(parts, rows(1), said)
    condition = said or {"image_id": [image.image_id for image in parts.memory.images.page(parts.tenant, [], 9)[0]]}
    receipt = remove(parts, filter=condition, block=True)
    assert (receipt.images, receipt.pictures, receipt.by_state) == (1, 0, {State.REMEMBERED: 1})
    with pytest.raises(Blocked):
        send(parts, rows(2), said, said)
    assert parts.memory.images.count(parts.tenant) == 0


def test_a_picture_that_is_blocked_does_not_come_back_as_its_vector(parts: Parts) -> None:
    [image_id] = parts.teach(picture("disc"), subject="ann")
    [(_, vectors)] = parts.memory.images.pages_with_vectors(parts.tenant, [], 9)
    remove(parts, filter={"image_id": image_id}, block=True)
    with pytest.raises(Blocked):
        send(parts, vectors * np.float32(3))


def test_what_is_blocked_between_the_check_and_the_write_is_taken_back(parts: Parts) -> None:
    block = Once("put", lambda: parts.block("subject", "ann"))
    with pytest.raises(Blocked):
        send(parts, rows(2), {"subject": "ann"}, {}, memory=Hooked(parts.memory, before=block))
    assert [image.subject for image in parts.memory.images.page(parts.tenant, [], 9)[0]] == [None]


def test_a_tenant_meets_nothing_of_another(parts: Parts) -> None:
    send(parts, rows(2), {"image_id": "one"}, {"image_id": "two"})
    other = Parts(parts.folder, parts.memory, parts.pool)
    send(other, rows(1, seed=5), {"image_id": "one", "labels": ["theirs"]})
    [[hit], *_] = parts.memory.search.nearest(parts.tenant, rows(2), 1)
    assert hit.labels == ("cat",)
    assert remove(other, everything=True).images == 1
    assert parts.memory.images.count(parts.tenant) == 2


def test_there_is_no_picture_and_a_sentence_says_so(parts: Parts) -> None:
    [image] = parts.held(send(parts, rows(1))[0].image_id)
    assert not has_picture(image.picture)
    with pytest.raises(NotFound, match="has no picture: it came as a vector"):
        parts.pictures.read(image.picture)
    assert parts.pictures.delete([image.picture]) == 0


def test_a_backup_holds_them(parts: Parts, tmp_path: Path) -> None:
    with place(parts, None) as here, place(parts, None) as there:
        here.memory.open()
        ids = [each.image_id for each in send(here, rows(3))]
        here.teach(picture("disc"))
        back_up(here, tmp_path / "backup.tar")
        restored = restore(there, tmp_path / "backup.tar", without_later_removals=True)
        assert (restored.contents.points, restored.contents.pictures) == (4, 1)
        assert there.held(*ids) == here.held(*ids)
        near = here.memory.search.nearest(here.tenant, rows(3), 1)
        assert there.memory.search.nearest(there.tenant, rows(3), 1) == near


def test_a_vector_that_is_being_removed_is_refused_and_nothing_beside_it_accepted(parts: Parts) -> None:
    """Promise 1: nothing is answered as remembered that goes with a removal which marked it before."""
    send(parts, rows(1), {"image_id": "one"})
    parts.memory.marks.mark(parts.tenant, [], "r")
    before = parts.held("one")
    for seed in (0, 5):
        with pytest.raises(BeingRemoved):
            send(parts, rows(2, seed=seed), {"image_id": "one", "subject": "bob"}, {"image_id": "two"})
    assert (parts.held("one"), parts.memory.images.count(parts.tenant)) == (before, 1)
    parts.memory.marks.delete(parts.tenant, ["one"], "r")
    send(parts, rows(2), {"image_id": "one", "subject": "bob"}, {"image_id": "two"})
    assert parts.memory.images.count(parts.tenant) == 2
