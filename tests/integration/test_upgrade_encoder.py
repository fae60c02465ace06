"""The worker's thread that fills, and the memory that moves to another encoder by itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.test_fill_pass import counts, teach
from tests.support.running_service import until
from tests.support.two_encoders import FIRST, IDENTITY, SECOND, SLICE, Migrating, Tones, memory_of, over
from tests.support.wired_service import Once, Pixels
from visual_memory.schemas.encoder import EncoderIdentity, FillCounts, FillSettings
from visual_memory.schemas.errors import Unavailable
from visual_memory.services.encoder_migration import fill_in_background, fill_pass
from visual_memory.services.encoder_migration.add_encoder import AddEncoder
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoder_migration.fill_in_background import FillLoop
from visual_memory.services.encoder_migration.fill_pass import FillPass, ReadFillSettings
from visual_memory.services.encoder_migration.upgrade_encoder import UpgradeEncoder
from visual_memory.services.encoding.encoder_contract import EncoderUnusable
from visual_memory.services.encoding.micro_batcher import MicroBatcher
from visual_memory.services.settings import EncoderSettings

AUTO = EncoderSettings(upgrade="auto")


@pytest.fixture
def parts(_sandboxes: None) -> Iterator[Migrating]:
    with over("edge") as made:
        yield made


@contextmanager
def thread(parts: Migrating, upgrade: object = None) -> Iterator[threading.Thread]:
    """It runs, with both encoders loaded."""
    batchers = {each.name: MicroBatcher(lambda each=each: each) for each in (Pixels(), Tones())}  # type: ignore[misc]
    ended = threading.Event()

    @contextmanager
    def filling(encoder: MicroBatcher, asked: ReadFillSettings) -> Iterator[FillPass]:
        spec = FIRST if encoder.name == FIRST.name else SECOND
        memory = memory_of(parts.engine, spec)
        yield FillPass(
            memory.missing_vectors,
            memory.images.tenants,
            parts.pictures,
            encoder,
            parts.decoder,
            parts.pool,
            SLICE,
            asked,
            ended,
        )

    keep = FillLoop(
        parts.records,
        lambda which: memory_of(parts.engine, which).missing_vectors,
        batchers.get,
        filling,
        upgrade if callable(upgrade) else lambda: None,
        ended,
    )
    running = threading.Thread(target=keep.run)
    running.start()
    try:
        yield running
    finally:
        ended.set()
        running.join(60)
        for batcher in batchers.values():
            batcher.close()
    assert not running.is_alive()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill_pass, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(fill_in_background, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(fill_in_background, "RETRY_SECONDS", 0.1)


def test_it_fills_what_comes_until_it_is_paused_and_again_when_it_goes_on(
    parts: Migrating, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, fill = list[FillSettings](), EncoderRecords.fill

    def noted(records: EncoderRecords, name: str) -> FillSettings:
        settings = fill(records, name)
        if name == "tones" and threading.current_thread() is not threading.main_thread():
            told.append(settings)
        return settings

    def is_told(times: int) -> bool:
        return len(told) >= times and all(each.paused for each in told[-times:])

    monkeypatch.setattr(EncoderRecords, "fill", noted)
    teach(parts, 5)
    with thread(parts):
        parts.add()
        until(lambda: counts(parts) == FillCounts(filled=5), "all to be filled")
        parts.records.set_fill("tones", FillSettings(paused=True))
        until(lambda: is_told(3), "the pause to be seen")
        teach(parts, 3)
        told.clear()
        until(lambda: is_told(5), "it to look again and again")
        assert counts(parts) == FillCounts(filled=5, left=3)
        parts.records.set_fill("tones", FillSettings())
        until(lambda: counts(parts) == FillCounts(filled=8), "the rest to be filled")
    parts.check_vectors()


def test_it_goes_on_after_whatever_went_wrong(parts: Migrating) -> None:
    def away() -> None:
        raise Unavailable("away")

    def break_down() -> None:
        raise RuntimeError("never seen before")

    first, second = Once("now", away), Once("now", break_down)
    teach(parts, 2)
    parts.add()
    with thread(parts, lambda: first("now") if not first.called else second("now")):
        until(lambda: counts(parts).filled == 2, "all to be filled")


def test_images_that_only_the_new_one_has_are_filled_by_the_old_one_too(parts: Migrating) -> None:
    teach(parts, 2)
    parts.add()
    parts.fill()
    parts.switch()("tones")
    parts.memory, parts.encoder = parts.added, Tones()
    teach(parts, 2)
    with thread(parts):
        until(lambda: len(parts.vectors_of(FIRST)) == 4, "the way back to be open")
    parts.check_vectors()


def upgrade(parts: Migrating, asked: EncoderSettings = AUTO) -> UpgradeEncoder:
    def identify(named: EncoderSettings) -> EncoderIdentity:
        assert named.name == FIRST.model, "of the memory's own model, in today's preprocessing"
        return IDENTITY

    add = AddEncoder(parts.records, parts.engine, identify, lambda *_: Tones())
    return UpgradeEncoder(parts.records, asked, identify, add, parts.switch(), lambda _: not counts(parts).left)


def test_it_moves_by_itself_step_by_step_and_not_against_who_switched_back(parts: Migrating) -> None:
    teach(parts, 3)
    step = upgrade(parts)
    step()
    assert parts.records.known().keys() == {"pixels", "tones"}
    step()
    assert parts.records.active().name == "pixels", "it is not filled yet"  # type: ignore[union-attr]
    parts.fill()
    step()
    assert parts.records.active().name == "tones"  # type: ignore[union-attr]
    step()
    parts.switch().back()
    step()
    assert parts.records.active().name == "pixels"  # type: ignore[union-attr]


def test_it_moves_to_the_encoder_that_is_named_as_lists_show_it(parts: Migrating) -> None:
    teach(parts, 3)
    parts.add()
    step = upgrade(parts, AUTO.model_copy(update={"name": "tones"}))
    step()
    assert parts.records.active().name == "pixels", "it is not filled yet"  # type: ignore[union-attr]
    parts.fill()
    step()
    assert parts.records.active().name == "tones"  # type: ignore[union-attr]


def test_an_encoder_that_is_not_known_is_not_taken_for_a_model(
    parts: Migrating, caplog: pytest.LogCaptureFixture
) -> None:
    step = upgrade(parts, AUTO.model_copy(update={"name": "tones-0123456789ab"}))
    step()
    step()
    assert caplog.text.count("tones-0123456789ab, and this memory has pixels") == 1


def test_one_that_cannot_be_loaded_is_tried_once(parts: Migrating, caplog: pytest.LogCaptureFixture) -> None:
    def load(*_: object) -> Tones:
        raise EncoderUnusable("no such model")

    add = AddEncoder(parts.records, parts.engine, lambda _: IDENTITY, load)
    step = UpgradeEncoder(parts.records, AUTO, lambda _: IDENTITY, add, parts.switch(), lambda _: True)
    step()
    step()
    assert caplog.text.count("cannot be upgraded: no such model") == 1


def test_it_does_nothing_where_nobody_asks_for_it(parts: Migrating) -> None:
    upgrade(parts, EncoderSettings())()
    assert parts.records.known().keys() == {"pixels"}
