"""Promise 2: a restored backup brings back what it holds, and nothing that was removed, before or since."""

import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from schemas.encoder import FillCounts
from schemas.errors import Conflict, InvalidRequest
from schemas.filter import Filter
from schemas.image import ImagePatch, State, now
from schemas.removal import RemovalRequest
from services.encoder_migration.encoder_records import EncoderRecords
from services.forgetting.backup import UNFINISHED, Backup, Restore, Restored
from services.memory.embedded.edge import EdgeEngine
from services.memory.engine import EVERY_POINT, Engine, SetPayload
from services.memory.ledger import Ledger
from services.memory.memory import Memory
from services.memory.pictures import Pictures, new_keys_of_vectors
from tests.contract.support import quick_folder, reject, units
from tests.shapes import picture

from .support import METADATA, TESTER, Hooked, Killed, Once, Parts, Pixels, copy_records, encoder_spec


@contextmanager
def place(parts: Parts) -> Iterator[Parts]:
    """Another installation, with nothing in it; of the same tenant."""
    with quick_folder() as folder:
        engine = EdgeEngine(folder / "engine")
        memory = Memory(engine, Pixels().name, Pixels().dimension, METADATA)
        yield Parts(folder, memory, parts.pool, tenant=parts.tenant)
        memory.close()


BOTH = pytest.mark.skip(reason="until a backup holds the database of the records")


@pytest.fixture
def here(parts: Parts) -> Iterator[Parts]:
    """An installation of its own, because a backup is of everything."""
    with place(parts) as own:
        own.memory.open()
        yield own


@pytest.fixture
def there(parts: Parts) -> Iterator[Parts]:
    with place(parts) as own:
        yield own


def engine_of(parts: Parts) -> Engine:
    return parts.memory._engine


def back_up(parts: Parts, file: Path) -> None:
    Backup(engine_of(parts), parts.pictures, parts.ledger)(file)


def restore(parts: Parts, file: Path) -> Restored:
    decisions = parts.decisions()
    hooks = [decisions.forget], decisions.settle_all
    return Restore(engine_of(parts), parts.pictures, parts.ledger, parts.removals, parts.notes, METADATA, *hooks)(file)


def remove(parts: Parts, **condition: object) -> None:
    request = RemovalRequest(filter=Filter.model_validate(condition), reason="asked to")
    parts.remove(request)


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
    assert not there.ledger.exists(UNFINISHED)


def add_encoder(parts: Parts, name: str, dimension: int) -> Memory:
    EncoderRecords(parts.database).add(encoder_spec(name, dimension))
    engine_of(parts).add_vector(name, dimension)
    return parts.memory.under(name, dimension)


def held_vectors(parts: Parts) -> dict[str, dict[str, bytes]]:
    points, _ = parts.memory.export(1000)
    return {
        point.id: {name: np.asarray(row, np.float32).tobytes() for name, row in point.vectors.items()}
        for point in points
    }


@pytest.mark.skip(reason="backups do not hold the database yet")
def test_the_vectors_and_records_of_all_encoders_come_back(here: Parts, there: Parts, tmp_path: Path) -> None:
    records, name = EncoderRecords(here.database), Pixels().name
    records.create_first(encoder_spec(name, Pixels().dimension))
    ids = here.teach(*(picture(kind) for kind in ("disc", "bars", "cross")))
    other = add_encoder(here, "other", 7)
    other.filling.fill(here.held(*ids[:2]), units(2, 3, 7))
    other.filling.give_up(here.held(*ids[2:]), "it is too thin")
    records.switch("other")
    back_up(here, tmp_path / "b")

    there.memory.open()  # it was started once, with an encoder of its own
    EncoderRecords(there.database).create_first(encoder_spec("its-own", 5))
    engine_of(there).add_vector("its-own", 5)
    restore(there, tmp_path / "b")
    restored = EncoderRecords(there.database)
    assert restored.known() == records.known()
    assert restored.active() == records.active()
    assert held_vectors(there) == held_vectors(here)
    shape = engine_of(there).inspect()
    assert shape is not None
    assert dict(shape.vectors) == {name: Pixels().dimension, "other": 7}
    again = there.memory.under("other", 7)
    assert again.filling.fill_counts() == other.filling.fill_counts() == FillCounts(filled=2, failed=1)


@pytest.mark.skip(reason="backups do not hold the database yet")
def test_an_encoder_that_comes_or_goes_during_a_backup_is_there_as_its_records_say(
    here: Parts, there: Parts, tmp_path: Path
) -> None:
    EncoderRecords(here.database).create_first(encoder_spec(Pixels().name, Pixels().dimension))
    ids = here.teach(*(picture("disc") for _ in range(3)))
    gone = add_encoder(here, "gone", 7)
    gone.filling.fill(here.held(*ids), units(3, 3, 7))

    def change() -> None:
        engine_of(here).drop_vector("gone")
        EncoderRecords(here.database).delete("gone")
        add_encoder(here, "new", 8).filling.fill(here.held(*ids), units(3, 4, 8))

    engine = cast(Engine, Hooked(engine_of(here), before=Once("export", change)))
    Backup(engine, here.pictures, here.ledger)(tmp_path / "b")
    restore(there, tmp_path / "b")
    shape = engine_of(there).inspect()
    assert shape is not None
    assert dict(shape.vectors) == {Pixels().name: Pixels().dimension, "new": 8}
    assert there.memory.under("new", 8).filling.fill_counts() == FillCounts(left=3)
    assert there.memory.filling.fill_counts() == FillCounts(filled=3)


@pytest.mark.skip(reason="backups do not hold the database yet")
def test_a_backup_of_before_there_were_records_of_encoders_comes_back(
    here: Parts, there: Parts, tmp_path: Path
) -> None:
    here.teach(picture("disc"), picture("bars"))
    key = new_keys_of_vectors(1)[0]
    stored = here.held(*here.teach(picture("cross")))[0]
    vector = stored.model_copy(update={"image_id": "v", "picture": key})
    here.memory.put([vector], vectors=units(1, 3, Pixels().dimension))
    engine_of(here).write([SetPayload({"vector_only": None}, EVERY_POINT)])  # nor were these marked
    back_up(here, tmp_path / "b")
    there.memory.open()
    EncoderRecords(there.database).create_first(encoder_spec("its-own", 5))
    restore(there, tmp_path / "b")
    assert EncoderRecords(there.database).known() == {}, "the encoder is found by its vectors"
    assert held_vectors(there) == held_vectors(here)
    engine_of(there).add_vector("other", 7)
    assert there.memory.under("other", 7).filling.fill_counts() == FillCounts(left=3, vectors_only=1)


def test_the_past_comes_back_too(here: Parts, there: Parts, tmp_path: Path) -> None:
    [image_id] = here.teach(picture("disc"), labels=["cat"])
    then, question = now(), picture("disc")
    here.accept().amend(here.tenant, image_id, ImagePatch(labels=["dog"]))
    back_up(here, tmp_path / "b")
    restore(there, tmp_path / "b")
    assert [there.ask(question, as_of=moment).label for moment in (then, None)] == ["cat", "dog"]


@BOTH
def test_what_was_removed_since_stays_away_where_the_records_are_the_latest(
    here: Parts, there: Parts, tmp_path: Path
) -> None:
    gone = here.teach(picture("disc"), picture("bars"), subject="ann")
    replaced = here.teach(picture("cross"), image_id="one", subject="ann")
    kept = here.teach(picture("cross"), subject="bob")
    back_up(here, tmp_path / "b")
    here.teach(picture("checks"), image_id="one", subject="ann")  # the backup has the older picture of it
    remove(here, subject="ann")
    copy_records(here, there)
    restored = restore(there, tmp_path / "b")
    assert (restored.contents.points, restored.left_out) == (1, 3)
    assert set(there.memory.get(there.tenant, [*gone, *replaced, *kept])) == set(kept)
    assert len(there.files()) == 1
    assert there.verify()().faults == []


@BOTH
def test_what_was_accepted_after_a_removal_comes_back(here: Parts, there: Parts, tmp_path: Path) -> None:
    here.teach(picture("disc"), subject="ann")
    remove(here, subject="ann")
    again = here.teach(picture("disc"), subject="ann")
    back_up(here, tmp_path / "b")
    assert restore(there, tmp_path / "b").contents.points == 1
    assert set(there.memory.get(there.tenant, again)) == set(again)
    assert [each.images for each in there.removals.latest(there.tenant, 1000)] == [1]


@BOTH
def test_stored_decisions_come_back_without_what_was_removed_since(here: Parts, there: Parts, tmp_path: Path) -> None:
    gone = here.teach(asked := picture("disc"), subject="ann", labels=["Mark-Of-Label"])
    here.teach(picture("cross"), subject="bob")
    deleted, on_it, scrubbed = [str(here.keep(data)[0].id) for data in (picture("disc"), asked, picture("disc"))]
    back_up(here, tmp_path / "b")
    here.decisions().delete(here.tenant, deleted)
    remove(here, subject="ann")
    [since] = here.keep(picture("cross"))
    copy_records(here, there)
    there.ledger.delete(f"decisions/{here.tenant}/{scrubbed}")  # as the oldest are
    restore(there, tmp_path / "b")
    assert [each.id for each in there.decisions().latest(there.tenant, 9)] == [since.id]

    with place(there) as without_records:
        for key in here.ledger.list(""):
            if not key.startswith("decisions"):
                without_records.ledger.put(key, here.ledger.get(key))
        restore(without_records, tmp_path / "b")
        left, again = without_records.decisions().latest(here.tenant, 9)
        assert (left.id, left.scrubbed, left.decision.label) == (scrubbed, 1, "cat")
        assert again.id == deleted, "nobody there knows that it was deleted"
        files = [path.read_bytes() for path in (without_records.folder / "records/decisions").rglob("*-*")]
        assert len(files) == 2
        assert not any(word in data for word in (gone[0].encode(), b"Mark-Of-Label") for data in files)
        assert on_it not in (left.id, again.id)


@BOTH
def test_a_removal_under_way_is_carried_on_after_the_restore(here: Parts, there: Parts, tmp_path: Path) -> None:
    ids = here.teach(picture("disc"), subject="ann")
    request = RemovalRequest(filter=Filter({"subject": "ann"}), reason="asked to")
    here.forget().request(here.tenant, request, TESTER)
    back_up(here, tmp_path / "b")
    assert restore(there, tmp_path / "b").left_out == 0
    assert there.forget().resume_all() == 1
    assert there.memory.get(there.tenant, ids) == {}


@BOTH
def test_a_removal_that_ends_while_the_records_are_read_is_not_undone(
    here: Parts, there: Parts, tmp_path: Path
) -> None:
    ids = here.teach(picture("disc"), subject="ann")
    request = RemovalRequest(filter=Filter({"subject": "ann"}), reason="asked to")
    recorded = here.forget().request(here.tenant, request, TESTER)
    end = Once("get_some", lambda: here.forget().resume(here.tenant, recorded.id))
    Backup(engine_of(here), here.pictures, cast(Ledger, Hooked(here.ledger, end)))(tmp_path / "b")
    assert end.called
    assert restore(there, tmp_path / "b").left_out == 1, "it was noted after the names of all records were read"
    assert there.memory.get(there.tenant, ids) == {}


def test_a_restore_that_was_killed_is_begun_again(here: Parts, there: Parts, tmp_path: Path) -> None:
    ids = here.teach(*(picture("disc") for _ in range(5)))
    back_up(here, tmp_path / "b")

    def die(name: str) -> None:
        if name == "write":
            raise Killed

    whole = there.pictures
    there.pictures = cast(Pictures, Hooked(whole, after=die))
    with pytest.raises(Killed):
        restore(there, tmp_path / "b")
    there.pictures = whole
    assert there.ledger.exists(UNFINISHED)
    assert restore(there, tmp_path / "b").contents.points == 5
    assert there.held(*ids) == here.held(*ids)
    assert len(there.files()) == 5


def test_a_memory_with_images_is_not_touched(here: Parts, tmp_path: Path) -> None:
    here.teach(picture("disc"))
    back_up(here, tmp_path / "b")
    with pytest.raises(Conflict, match="holds images"):
        restore(here, tmp_path / "b")
    assert not here.ledger.exists(UNFINISHED)


def test_a_backup_replaces_nothing_and_is_its_users_alone(here: Parts, tmp_path: Path) -> None:
    file = tmp_path / "b"
    back_up(here, file)
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        back_up(here, file)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2 // 512 * 512)


def scribble(file: Path) -> None:
    file.write_bytes(b"no tar at all" * 1000)


def drop_a_picture(file: Path) -> None:
    whole = file.with_name("whole")
    file.rename(whole)
    with tarfile.open(whole) as old, tarfile.open(file, "w") as new:
        names = [name for name in old.getnames() if not name.startswith("pictures/")]
        for name in names:
            new.addfile(old.getmember(name), old.extractfile(name))


@pytest.mark.parametrize("damage", [cut, scribble, drop_a_picture])
def test_a_damaged_backup_is_refused_before_anything_is_written(
    here: Parts, there: Parts, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    here.teach(*(picture("disc") for _ in range(5)))
    file = tmp_path / "b"
    back_up(here, file)
    damage(file)
    with pytest.raises(InvalidRequest, match=str(file)):
        restore(there, file)
    assert there.ledger.list("") == []
    assert there.files() == set()


def test_nothing_comes_back_that_was_computed_from_images(here: Parts, there: Parts, tmp_path: Path) -> None:
    """Neither a backup's judgements, nor those of where it is restored, nor what the service did because of votes."""
    here.teach(*(picture("disc") for _ in range(5)), labels=["disc"])
    [odd] = here.teach(picture("disc"), labels=["bars"])
    assert here.judge() is not None
    here.memory.mute(here.tenant, Filter({"image_id": odd}).clauses({}), 3)
    back_up(here, tmp_path / "b")
    copy_records(here, there)
    restore(there, tmp_path / "b")
    assert here.judgements.current(here.tenant) is not None
    assert there.judgements.current(there.tenant) is None
    assert there.ledger.list("judgements/") == []
    assert [(image.state, image.doubt) for image in there.held(odd)] == [(State.REMEMBERED, None)]
