"""The encoders of a process follow the records: loaded before they are switched to, let go of when they are dropped."""

import threading
from collections.abc import Callable, Iterator

import PIL.Image
import pytest

from tests.support.encoder_specs import spec
from tests.support.wired_service import Pixels
from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.errors import Unavailable
from visual_memory.services.bootstrap.wiring.wire_encoder_migration import ActiveUseCases
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoder_migration.loaded_encoders import LoadedEncoders
from visual_memory.services.encoding.encoder_contract import EncoderUnusable
from visual_memory.services.encoding.micro_batcher import MicroBatcher
from visual_memory.services.infrastructure.records.database import Database

Open = Callable[..., LoadedEncoders]


@pytest.fixture
def records(database: Database) -> EncoderRecords:
    made = EncoderRecords(database)
    made.create_first(spec("first"))
    return made


def load(asked: EncoderSpec) -> MicroBatcher:
    return MicroBatcher(lambda: Pixels(name=asked.name))


@pytest.fixture
def loaded(records: EncoderRecords, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens the encoders of a process, which look when they are told to."""
    monkeypatch.setattr("visual_memory.services.encoder_migration.loaded_encoders.POLL_SECONDS", 1e6)
    opened: list[LoadedEncoders] = []

    def make(load: Callable[[EncoderSpec], MicroBatcher] = load) -> LoadedEncoders:
        opened.append(LoadedEncoders(records, load, records.get("first")))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def names(encoders: LoadedEncoders) -> tuple[str, list[str]]:
    active = encoders.active().name
    return active, sorted(each.name for each in encoders.others(active))


def test_what_is_added_is_loaded_and_classifies_once_it_is_switched_to(loaded: Open, records: EncoderRecords) -> None:
    encoders = loaded()
    assert names(encoders) == ("first", [])
    records.add(spec("second"))
    encoders.refresh()
    assert names(encoders) == ("first", ["second"])
    records.switch("second")
    encoders.refresh()
    assert names(encoders) == ("second", ["first"]), "the one of before stays at hand"
    records.switch("first")
    encoders.refresh()
    assert names(encoders) == ("first", ["second"])


def test_a_process_that_lacks_the_new_one_goes_on_with_that_of_before(loaded: Open, records: EncoderRecords) -> None:
    fails = True

    def fail(asked: EncoderSpec) -> MicroBatcher:
        if asked.name == "second" and fails:
            raise EncoderUnusable("there is no such folder")
        return load(asked)

    encoders = loaded(fail)
    records.add(spec("second"))
    records.add(spec("third"))
    records.switch("second")
    for _ in range(3):
        encoders.refresh()
    assert names(encoders) == ("first", ["third"]), "one that cannot be loaded holds up no other"
    fails = False
    encoders.refresh()
    assert names(encoders) == ("first", ["third"]), "it is not tried at every look"
    encoders._retry_at.clear()
    encoders.refresh()
    encoders.refresh()
    assert names(encoders) == ("second", ["first", "third"])


def test_what_is_dropped_is_let_go_of_and_what_it_began_ends_first(loaded: Open, records: EncoderRecords) -> None:
    encoders = loaded()
    records.add(spec("second"))
    records.switch("second")
    encoders.refresh()
    encoders.refresh()
    before = encoders.others("second")[0]
    records.begin_drop("first")
    encoders.refresh()
    assert names(encoders) == ("second", [])
    picture = PIL.Image.new("RGB", (4, 4))
    assert before.encode([picture]).shape == (1, before.dimension), "whoever has it still may end what was begun"
    records.delete("first")
    encoders.refresh()
    with pytest.raises(Unavailable):
        before.encode([picture])


def test_the_active_one_is_kept_whatever_the_records_say(loaded: Open, records: EncoderRecords) -> None:
    encoders = loaded()
    records.delete("first")
    encoders.refresh()
    assert names(encoders) == ("first", [])


def test_the_records_are_followed(records: EncoderRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visual_memory.services.encoder_migration.loaded_encoders.POLL_SECONDS", 0.01)
    seen = threading.Event()

    def tell(asked: EncoderSpec) -> MicroBatcher:
        if asked.name == "second":
            seen.set()
        return load(asked)

    encoders = LoadedEncoders(records, tell, records.get("first"))
    records.add(spec("second"))
    assert seen.wait(60)
    encoders.close()
    with pytest.raises(Unavailable):
        encoders.active().encode([PIL.Image.new("RGB", (4, 4))])


def test_use_cases_are_wired_once_for_each_encoder_and_whoever_has_them_keeps_them(
    loaded: Open, records: EncoderRecords
) -> None:
    encoders, made = loaded(), list[str]()

    def wire(encoder: MicroBatcher) -> list[str]:
        made.append(encoder.name)
        return [encoder.name]

    wired = ActiveUseCases(encoders.active, wire)
    before = wired.current()
    assert wired.current() is before
    records.add(spec("second"))
    records.switch("second")
    encoders.refresh()
    encoders.refresh()
    ends = threading.Barrier(4)
    found: list[list[str]] = []

    def take() -> None:
        ends.wait()
        found.append(wired.current())

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(each is found[0] for each in found)
    assert (before, found[0], made) == (["first"], ["second"], ["first", "second"])
