"""Promise 2: a restored backup brings back what it holds, and nothing that was removed, before or since."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from tests.support.databases import SHORT, new_database
from tests.support.memory_images import mute, quick_folder, reject, units
from tests.support.shape_pictures import picture
from tests.support.wired_service import (
    METADATA,
    TESTER,
    Hooked,
    Killed,
    Once,
    Parts,
    Pixels,
    back_up,
    encoder_spec,
    receipts_in,
    restore,
)
from visual_memory.schemas.api_key import KeyRequest, Scope
from visual_memory.schemas.encoder import FillCounts
from visual_memory.schemas.errors import Blocked, Conflict, InvalidRequest
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImagePatch, State
from visual_memory.schemas.moments import now
from visual_memory.schemas.receipt import Event
from visual_memory.schemas.removal import RemovalRequest, RemovalStatus
from visual_memory.services.access.api_keys import ApiKeys
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.infrastructure.records import database_flags
from visual_memory.services.infrastructure.records.backup_records import latest_backups
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT, Engine
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine


@contextmanager
def place(parts: Parts, mirror: Path | None, kind: str = "sqlite") -> Iterator[Parts]:
    """Another installation, with nothing in it; of the same tenant."""
    with quick_folder() as folder, new_database(kind, folder / "given") as database:
        engine = EdgeEngine(folder / "engine")
        memory = Memory(engine, Pixels().name, Pixels().dimension, METADATA)
        own = Parts(folder, memory, parts.pool, tenant=parts.tenant, given=database)
        own.receipts = receipts_in(database, mirror)
        try:
            yield own
        finally:
            memory.close()


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """Another disk."""
    return tmp_path / "mirror"


@pytest.fixture
def here(parts: Parts, mirror: Path) -> Iterator[Parts]:
    """An installation of its own, because a backup is of everything."""
    with place(parts, mirror) as own:
        own.memory.open()
        yield own


@pytest.fixture(params=SHORT)
def there(parts: Parts, mirror: Path, request: pytest.FixtureRequest) -> Iterator[Parts]:
    """Another one, with either database."""
    with place(parts, mirror, request.param) as own:
        yield own


def engine_of(parts: Parts) -> Engine:
    return parts.memory.points.engine


def remove(parts: Parts, block: bool = False, **condition: object) -> str:
    request = RemovalRequest(filter=Filter.model_validate(condition), reason="asked to", block=block)
    return parts.remove(request).id


def test_everything_comes_back_to_the_last_bit(here: Parts, there: Parts, tmp_path: Path) -> None:
    ids = here.teach(*(picture(kind) for kind in ("disc", "bars", "cross")), subject="ann", metadata={"age": 3})
    [waiting] = (each.image_id for each in here.send(picture("checks"), expires_at=now() + timedelta(days=1)))
    [rejected] = (each.image_id for each in here.send(picture("checks")))
    reject(here.memory, here.held(rejected)[0], "as a test")
    every = [*ids, waiting, rejected]
    question = picture("disc")
    back_up(here, tmp_path / "b")
    assert restore(there, tmp_path / "b").left_out == 0
    assert there.held(*every) == here.held(*every)
    assert {image.state for image in there.held(*every)} == set(State) - {State.MUTED}
    assert [there.pictures.read(image.picture) for image in there.held(*every)] == [
        here.pictures.read(image.picture) for image in here.held(*every)
    ]
    assert there.ask(question) == here.ask(question)
    there.work()
    assert there.held(waiting)[0].state is State.REMEMBERED
    assert database_flags.read_flag(there.database, database_flags.RESTORE) is None


def add_encoder(parts: Parts, name: str, dimension: int) -> Memory:
    EncoderRecords(parts.database).add(encoder_spec(name, dimension))
    engine_of(parts).add_vector(name, dimension)
    return parts.memory.with_encoder(name, dimension)


def held_vectors(parts: Parts) -> dict[str, dict[str, bytes]]:
    points, _ = parts.memory.points.engine.export(EVERY_POINT, 1000, None)
    return {
        point.id: {name: np.asarray(row, np.float32).tobytes() for name, row in point.vectors.items()}
        for point in points
    }


def test_the_vectors_and_records_of_all_encoders_come_back(here: Parts, there: Parts, tmp_path: Path) -> None:
    records, name = EncoderRecords(here.database), Pixels().name
    records.create_first(encoder_spec(name, Pixels().dimension))
    ids = here.teach(*(picture(kind) for kind in ("disc", "bars", "cross")))
    other = add_encoder(here, "other", 7)
    other.missing_vectors.store(here.held(*ids[:2]), units(2, 3, 7))
    other.missing_vectors.give_up(here.held(*ids[2:]), "it is too thin")
    records.switch("other")
    back_up(here, tmp_path / "b")

    restore(there, tmp_path / "b")
    restored = EncoderRecords(there.database)
    assert restored.known() == records.known()
    assert restored.active() == records.active()
    assert held_vectors(there) == held_vectors(here)
    shape = engine_of(there).inspect()
    assert shape is not None
    assert dict(shape.vectors) == {name: Pixels().dimension, "other": 7}
    again = there.memory.with_encoder("other", 7)
    assert again.missing_vectors.counts() == other.missing_vectors.counts() == FillCounts(filled=2, failed=1)


def test_an_encoder_that_comes_or_goes_during_a_backup_is_there_as_its_records_say(
    here: Parts, there: Parts, tmp_path: Path
) -> None:
    EncoderRecords(here.database).create_first(encoder_spec(Pixels().name, Pixels().dimension))
    ids = here.teach(*(picture("disc") for _ in range(3)))
    gone = add_encoder(here, "gone", 7)
    gone.missing_vectors.store(here.held(*ids), units(3, 3, 7))

    def change() -> None:
        engine_of(here).drop_vector("gone")
        EncoderRecords(here.database).delete("gone")
        add_encoder(here, "new", 8).missing_vectors.store(here.held(*ids), units(3, 4, 8))

    back_up(here, tmp_path / "b", Hooked(engine_of(here), before=Once("export", change)))
    restore(there, tmp_path / "b")
    shape = engine_of(there).inspect()
    assert shape is not None
    assert dict(shape.vectors) == {Pixels().name: Pixels().dimension, "new": 8}
    assert there.memory.with_encoder("new", 8).missing_vectors.counts() == FillCounts(left=3)
    assert there.memory.missing_vectors.counts() == FillCounts(filled=3)


def test_the_past_comes_back_too(here: Parts, there: Parts, tmp_path: Path) -> None:
    [image_id] = here.teach(picture("disc"), labels=["cat"])
    then, question = now(), picture("disc")
    here.amend_image()(here.tenant, image_id, ImagePatch(labels=["dog"]))
    back_up(here, tmp_path / "b")
    restore(there, tmp_path / "b")
    assert [there.ask(question, as_of=moment).label for moment in (then, None)] == ["cat", "dog"]


def test_what_was_removed_since_stays_away_by_the_mirror(here: Parts, there: Parts, tmp_path: Path) -> None:
    gone = here.teach(picture("disc"), picture("bars"), subject="ann")
    replaced = here.teach(picture("cross"), image_id="one", subject="ann")
    kept = here.teach(picture("cross"), subject="bob")
    back_up(here, tmp_path / "b")
    here.teach(picture("checks"), image_id="one", subject="ann")  # the backup has the older picture of it
    removal = remove(here, subject="ann", block=True)
    here.compact()()
    restored = restore(there, tmp_path / "b")
    assert (restored.contents.points, restored.left_out, restored.later_removals) == (1, 3, 3)
    assert set(there.memory.images.get(there.tenant, [*gone, *replaced, *kept])) == set(kept)
    assert len(there.files()) == 1
    assert there.verify()().faults == []
    adopted, known = (
        there.removals.load(there.tenant, removal).removal,
        here.removals.load(here.tenant, removal).removal,
    )
    assert adopted == known
    assert adopted.status is RemovalStatus.DONE
    assert adopted.receipt is not None
    assert adopted.erasure is not None
    with pytest.raises(Blocked):
        there.send(picture("disc"), subject="ann")
    remove(there, subject="bob")
    assert there.verify()().faults == [], "the log goes on where the mirror ended"


def test_without_a_mirror_nothing_is_restored_unless_it_is_said(
    here: Parts, parts: Parts, tmp_path: Path, mirror: Path
) -> None:
    here.teach(picture("disc"), subject="ann")
    back_up(here, tmp_path / "b")
    with place(parts, None) as there:
        with pytest.raises(InvalidRequest, match="--without-later-removals"):
            restore(there, tmp_path / "b")
        assert restore(there, tmp_path / "b", without_later_removals=True).contents.points == 1
        [*_, last] = there.receipts.log.entries(there.tenant)
        assert last.event == Event.RESTORED
        assert there.receipts.log.signer.read(last.text).payload["without_later_removals"] is True


def test_a_mirror_of_another_log_is_refused(here: Parts, parts: Parts, tmp_path: Path) -> None:
    here.teach(picture("disc"), subject="ann")
    remove(here, subject="ann")
    back_up(here, tmp_path / "b")
    with place(parts, tmp_path / "other") as another:
        another.memory.open()
        another.teach(picture("disc"), subject="bob")
        remove(another, subject="bob")
        remove(another, subject="eve")
    with place(parts, tmp_path / "other") as there, pytest.raises(InvalidRequest, match="mirror"):
        restore(there, tmp_path / "b")


def test_what_was_asked_for_and_did_not_end_is_told(here: Parts, there: Parts, tmp_path: Path) -> None:
    here.teach(picture("disc"), subject="ann")
    here.teach(picture("disc"), subject="bob")
    back_up(here, tmp_path / "b")
    request = RemovalRequest(filter=Filter({"subject": "ann"}), reason="asked to")
    asked = here.forget().request(here.tenant, request, TESTER)
    remove(here, subject="bob")
    restored = restore(there, tmp_path / "b", rehearsal=True)
    assert restored.left_out == 1
    assert list(restored.unfinished) == [asked.id]
    assert there.verify()().faults == []
    assert here.forget().resume_all() == 1, "the service goes on, for a rehearsal only reads the mirror"


def test_what_was_accepted_after_a_removal_comes_back(here: Parts, there: Parts, tmp_path: Path) -> None:
    here.teach(picture("disc"), subject="ann", image_id="a")
    remove(here, subject="ann")
    again = here.teach(picture("disc"), subject="ann", image_id="a")
    back_up(here, tmp_path / "b")
    assert restore(there, tmp_path / "b").contents.points == 1
    assert set(there.memory.images.get(there.tenant, again)) == set(again)
    assert [each.images for each in there.removals.latest(there.tenant).data] == [1]


def test_what_a_block_refuses_does_not_come_back(here: Parts, there: Parts, tmp_path: Path) -> None:
    here.teach(picture("disc"), subject="ann")
    here.block("subject", "ann")
    back_up(here, tmp_path / "b")
    assert restore(there, tmp_path / "b").left_out == 1


def test_stored_decisions_come_back_without_what_was_removed_since(here: Parts, there: Parts, tmp_path: Path) -> None:
    here.teach(asked := picture("disc"), subject="ann", labels=["Mark-Of-Label"])
    here.teach(picture("cross"), subject="bob")
    on_it, scrubbed = [str(here.keep(data)[0].id) for data in (asked, picture("disc"))]
    named = str(here.keep(picture("disc"), filter={"subject": {"not": "ann"}})[0].id)
    back_up(here, tmp_path / "b")
    remove(here, subject="ann")
    restore(there, tmp_path / "b")
    left = list(there.decisions().latest(there.tenant, 9))
    assert [(each.id, each.scrubbed) for each in left] == [(scrubbed, 1)]
    assert "Mark-Of-Label" not in left[0].model_dump_json()
    assert not {on_it, named} & {each.id for each in left}


def test_keys_come_back_revoked_unless_it_is_said(here: Parts, parts: Parts, tmp_path: Path, mirror: Path) -> None:
    keys = ApiKeys(here.database)
    wanted = KeyRequest(name="a test", tenant=here.tenant, scopes=[Scope.ADMIN])
    revoked, still_open = keys.make(wanted).key, keys.make(wanted).key
    keys.revoke(revoked.id)
    back_up(here, tmp_path / "b")
    for with_keys, expected in ((False, set()), (True, {still_open.id})):
        with place(parts, mirror) as there:
            restore(there, tmp_path / "b", with_keys=with_keys)
            assert {key.id for key in ApiKeys(there.database).all() if key.revoked_at is None} == expected
    with place(parts, mirror) as there, pytest.raises(InvalidRequest, match="not signed"):
        restore(there, Path(__file__).parents[1] / "fixtures" / "data_folder_1" / "backup", with_keys=True)


def test_a_removal_under_way_is_resumed_after_the_restore(here: Parts, there: Parts, tmp_path: Path) -> None:
    ids = here.teach(picture("disc"), subject="ann")
    request = RemovalRequest(filter=Filter({"subject": "ann"}), reason="asked to")
    here.forget().request(here.tenant, request, TESTER)
    back_up(here, tmp_path / "b")
    assert restore(there, tmp_path / "b").left_out == 0
    assert there.forget().resume_all() == 1
    assert there.memory.images.get(there.tenant, ids) == {}
    assert there.verify()().faults == []


def test_a_removal_that_ends_while_pictures_are_read_is_not_undone(here: Parts, there: Parts, tmp_path: Path) -> None:
    ids = here.teach(picture("disc"), subject="ann")
    request = RemovalRequest(filter=Filter({"subject": "ann"}), reason="asked to")
    recorded = here.forget().request(here.tenant, request, TESTER)
    whole = here.pictures
    end = Once("read", lambda: here.forget(pictures=whole).resume(here.tenant, recorded.id))
    here.pictures = cast(PictureStore, Hooked(whole, end))
    back_up(here, tmp_path / "b")
    assert end.called
    assert restore(there, tmp_path / "b").left_out == 1
    assert there.memory.images.get(there.tenant, ids) == {}


def test_a_restore_that_was_killed_is_served_by_nobody_and_not_continued(
    here: Parts, there: Parts, tmp_path: Path
) -> None:
    here.teach(*(picture("disc") for _ in range(5)))
    back_up(here, tmp_path / "b")

    def die(name: str) -> None:
        if name == "write":
            raise Killed

    there.pictures = cast(PictureStore, Hooked(there.pictures, after=die))
    with pytest.raises(Killed):
        restore(there, tmp_path / "b")
    assert database_flags.read_flag(there.database, database_flags.RESTORE) is not None
    with pytest.raises(Conflict, match="name another folder"):
        restore(there, tmp_path / "b")


def test_a_memory_with_images_is_not_touched(here: Parts, tmp_path: Path) -> None:
    here.teach(picture("disc"))
    back_up(here, tmp_path / "b")
    with pytest.raises(Conflict, match="images here already"):
        restore(here, tmp_path / "b")
    assert database_flags.read_flag(here.database, database_flags.RESTORE) is None


def test_a_backup_replaces_nothing(here: Parts, tmp_path: Path) -> None:
    back_up(here, tmp_path / "b")
    with pytest.raises(FileExistsError):
        back_up(here, tmp_path / "b")


def test_nothing_comes_back_that_was_computed_from_images(here: Parts, there: Parts, tmp_path: Path) -> None:
    """Neither a backup's judgements nor what the service did because of votes."""
    here.teach(*(picture("disc") for _ in range(5)), labels=["disc"])
    [odd] = here.teach(picture("disc"), labels=["bars"])
    assert here.judge() is not None
    mute(here.memory, here.tenant, Filter({"image_id": odd}).clauses({}), 3)
    back_up(here, tmp_path / "b")
    restore(there, tmp_path / "b")
    assert here.judgements.current(here.tenant) is not None
    assert there.judgements.current(there.tenant) is None
    assert [(image.state, image.doubt) for image in there.held(odd)] == [(State.REMEMBERED, None)]


def test_a_backup_is_recorded_and_so_is_the_one_that_was_restored(here: Parts, there: Parts, tmp_path: Path) -> None:
    here.teach(picture("disc"))
    with pytest.raises(FileNotFoundError):
        back_up(here, tmp_path / "missing" / "b")
    assert latest_backups(here.database, 9) == []
    back_up(here, tmp_path / "a")
    back_up(here, tmp_path / "b")
    second, first = latest_backups(here.database, 9)
    assert first.begun_at <= first.ended_at <= second.ended_at
    restore(there, tmp_path / "b")
    assert [each.begun_at for each in latest_backups(there.database, 9)] == [second.begun_at, first.begun_at]
