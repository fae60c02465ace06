"""Which encoders a memory has, by records in real databases."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from pydantic import ValidationError

from tests.support.encoder_specs import spec
from visual_memory.schemas.encoder import FillSettings
from visual_memory.schemas.errors import Conflict, NotFound
from visual_memory.schemas.moments import now
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.infrastructure.records.database import Database

MANY = 8


@pytest.fixture
def records(database: Database) -> EncoderRecords:
    return EncoderRecords(database)


def test_what_is_added_is_known_to_whoever_reads_the_database(database: Database, records: EncoderRecords) -> None:
    later, earlier = spec("b"), spec("c", added_at=now() - timedelta(days=1))
    assert records.add(later)
    assert records.add(earlier)
    assert not records.add(spec("b", dimension=5))
    assert list(EncoderRecords(database).known().items()) == [("c", earlier), ("b", later)]
    assert records.get("b") == later


@pytest.mark.parametrize("name", ["-", ".enc", "../../keys", "a/b", "x" * 300, "ä"])
def test_a_name_may_be_any_text(records: EncoderRecords, name: str) -> None:
    with pytest.raises(NotFound, match="it has: none yet"):
        records.get(name)
    records.create_first(spec(name))
    assert records.known().keys() == {name}


def test_an_unknown_name_is_refused_with_those_that_there_are(records: EncoderRecords) -> None:
    records.add(spec("one"))
    for refused in (
        lambda: records.get("two"),
        lambda: records.switch("two"),
        lambda: records.set_fill("two", FillSettings()),
        lambda: records.begin_drop("two"),
    ):
        with pytest.raises(NotFound, match="no encoder 'two'; it has: one"):
            refused()


def test_of_several_first_encoders_one_is_active_and_no_other_is_left(records: EncoderRecords) -> None:
    assert records.active() is None
    with ThreadPoolExecutor(MANY) as threads:
        found = {each.name for each in threads.map(records.create_first, [spec(f"e{n}") for n in range(MANY)])}
    assert len(found) == 1
    active = records.active()
    assert active is not None
    assert found == {active.name} == records.known().keys()
    assert active.before is None


def test_of_several_who_create_the_same_first_encoder_each_is_given_it(records: EncoderRecords) -> None:
    same = spec("same")
    with ThreadPoolExecutor(MANY) as threads:
        found = {each.name for each in threads.map(records.create_first, [same] * MANY)}
    assert found == {"same"} == records.known().keys()


def test_a_switch_says_which_was_before_and_back_again(records: EncoderRecords) -> None:
    records.create_first(spec("old"))
    records.add(spec("new"))
    there = records.switch("new")
    assert (there.name, there.before) == ("new", "old")
    assert records.switch("new") == there == records.active()
    back = records.switch("old")
    assert (back.name, back.before) == ("old", "new")


def test_one_that_was_dropped_and_added_again_did_not_classify_before(records: EncoderRecords) -> None:
    assert records.previous() is None
    records.create_first(spec("one"))
    records.add(spec("two"))
    assert records.previous() is None
    records.switch("two")
    assert records.previous() == "one"
    records.delete("one")
    assert records.previous() is None
    records.add(spec("one").model_copy(update={"added_at": now()}))
    assert records.previous() is None


def test_a_fill_is_as_was_set_last(records: EncoderRecords) -> None:
    records.add(spec("new"))
    assert records.fill("new") == FillSettings(share=1.0, paused=False)
    records.set_fill("new", FillSettings(share=0.25, paused=True))
    assert records.fill("new") == FillSettings(share=0.25, paused=True)
    for share in (0, -1, 1.1):
        with pytest.raises(ValidationError):
            FillSettings(share=share)


def test_the_active_encoder_is_not_dropped(records: EncoderRecords) -> None:
    records.create_first(spec("one"))
    with pytest.raises(Conflict, match="active one: switch to another"):
        records.begin_drop("one")
    assert records.dropping() == set()


def test_what_is_being_dropped_is_known_but_not_switched_to(records: EncoderRecords) -> None:
    records.create_first(spec("one"))
    records.add(spec("two"))
    records.begin_drop("two")
    assert records.dropping() == {"two"}
    assert records.known().keys() == {"one", "two"}
    with pytest.raises(Conflict, match="being dropped"):
        records.switch("two")
    records.cancel_drop("two")
    assert records.dropping() == set()
    assert records.switch("two").before == "one"


def test_nothing_of_a_deleted_encoder_is_left(records: EncoderRecords) -> None:
    records.create_first(spec("one"))
    records.add(spec("two"))
    records.set_fill("two", FillSettings(paused=True))
    records.begin_drop("two")
    for _ in range(2):  # repeated after a crash
        records.delete("two")
    assert records.known().keys() == {"one"}
    assert records.dropping() == set()
    assert records.add(spec("two"))
    assert not records.fill("two").paused
