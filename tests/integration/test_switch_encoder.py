"""Promise 8: an encoder is added, switched to and dropped whole or not at all, wherever it is killed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.test_fill_pass import counts, teach
from tests.support.memory_images import mute
from tests.support.shape_pictures import picture
from tests.support.two_encoders import ENGINES, FIRST, QUIET, SECOND, Migrating, Tones, over, vector_names
from tests.support.wired_service import Hooked, Killed, Once
from visual_memory.schemas.errors import Conflict, NotFound
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State
from visual_memory.services.encoder_migration import switch_encoder
from visual_memory.services.encoder_migration.drop_encoder import find_added
from visual_memory.services.infrastructure.records.tables import active_encoder

pytestmark = QUIET


@pytest.fixture(params=ENGINES)
def parts(request: pytest.FixtureRequest, _sandboxes: None) -> Iterator[Migrating]:
    with over(request.param) as made:
        yield made


def active(parts: Migrating) -> str:
    held = parts.records.active()
    assert held is not None
    return held.name


def die() -> None:
    raise Killed


def test_what_is_left_forbids_the_switch_and_is_said(parts: Migrating) -> None:
    teach(parts, 3)
    parts.add()
    with pytest.raises(Conflict, match="3 images have no vector of tones yet"):
        parts.switch()("tones")
    assert active(parts) == "pixels"
    parts.fill()
    assert parts.switch()("tones").counts.filled == 3
    assert active(parts) == "tones"


def test_what_was_judged_is_judged_anew_before_the_switch_and_keeps_what_was_pruned(parts: Migrating) -> None:
    ids = teach(parts, 12)
    before = parts.judge()
    assert before is not None
    mute(parts.memory, parts.tenant, Filter({"image_id": ids[0]}).clauses({}), 1)
    parts.add()
    parts.fill()
    stages: list[str] = []
    switched = parts.switch()("tones", lambda stage, *_: stages.append(stage))
    assert switched.judged == [parts.tenant]
    assert "compared" in stages
    judged = parts.of(parts.engine, SECOND).judgements.current(parts.tenant)
    assert judged is not None
    assert (judged.encoder, judged.images) == ("tones", 11)
    assert parts.judgements.current(parts.tenant) == before, "it stands, for a way back"
    assert parts.held(ids[0])[0].state is State.MUTED


def test_the_judgement_is_there_before_the_encoder_classifies(parts: Migrating) -> None:
    teach(parts, 4)
    parts.judge()
    parts.add()
    parts.fill()

    def look() -> None:
        assert parts.of(parts.engine, SECOND).judgements.current(parts.tenant) is not None
        seen.append(active(parts))

    seen: list[str] = []
    parts.switch(records=Hooked(parts.records, before=Once("switch", look)))("tones")
    assert seen == ["pixels"]


def test_pictures_that_come_while_it_is_judged_are_waited_for(
    parts: Migrating, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach(parts, 4)
    parts.judge()
    parts.add()
    parts.fill()
    fillers = ThreadPoolExecutor(1)

    def come(stage: str, *_: int) -> None:
        if stage == "counted":
            teach(parts, 2)
            fillers.submit(parts.fill)

    def come_late(stage: str, *_: int) -> None:
        if stage == "counted":
            _only_by_the_second(parts)

    switched = parts.switch()("tones", come)
    assert (switched.counts.filled, switched.counts.left) == (6, 0)
    monkeypatch.setattr(switch_encoder, "FILL_WAIT_SECONDS", 0.0)
    fillers.shutdown()
    with pytest.raises(Conflict, match="2 images have no vector of pixels yet"):
        parts.switch().back(come_late)


def _only_by_the_second(parts: Migrating) -> None:
    """Pictures that are remembered by the second encoder, before the first one has them."""
    first = (parts.memory, parts.encoder)
    parts.memory, parts.encoder = parts.added, Tones()
    teach(parts, 2)
    parts.memory, parts.encoder = first


def test_back_and_forth(parts: Migrating) -> None:
    teach(parts, 3)
    with pytest.raises(NotFound, match="none to switch back to"):
        parts.switch().back()
    parts.add()
    parts.fill()
    parts.switch()("tones")
    with pytest.raises(Conflict, match="classifies already"):
        parts.switch()("tones")
    assert parts.switch().back().active.name == "pixels"
    assert parts.switch().back().active.name == "tones"
    parts.drop()("pixels")
    with pytest.raises(NotFound, match="was dropped"):
        parts.switch().back()


def test_one_that_is_known_already_is_refused_in_so_many_words(parts: Migrating) -> None:
    parts.add()
    with pytest.raises(Conflict, match="added already"):
        parts.add()
    parts.fill()
    parts.switch()("tones")
    with pytest.raises(Conflict, match="active already"):
        parts.add()
    parts.switch().back()
    parts.records.begin_drop("tones")
    with pytest.raises(Conflict, match="being dropped"):
        parts.add()


def test_of_two_who_add_the_same_one_at_once_one_does(parts: Migrating) -> None:
    first = Once("add", lambda: parts.add(share=0.3))
    with pytest.raises(Conflict, match="added already"):
        parts.add(records=Hooked(parts.records, before=first))
    assert parts.records.fill("tones").share == 0.3, "it is filled as whoever added it said"
    assert parts.shape() == vector_names(FIRST, SECOND)


def test_the_active_one_is_not_dropped_and_one_that_classified_is_not_cancelled(parts: Migrating) -> None:
    teach(parts, 2)
    parts.add()
    with pytest.raises(Conflict, match="is the active one"):
        parts.drop()("pixels")
    parts.fill()
    parts.switch()("tones")
    with pytest.raises(Conflict, match="classified before"):
        parts.drop().cancel("pixels")
    with pytest.raises(Conflict, match="classifies"):
        parts.drop().cancel("tones")
    assert parts.shape() == vector_names(FIRST, SECOND)


def test_what_is_cancelled_is_gone_with_its_marks_and_may_be_added_again(parts: Migrating) -> None:
    [image_id] = parts.teach(picture("disc"))
    parts.pictures.write(parts.held(image_id)[0].picture, b"no picture any more")
    teach(parts, 2)
    parts.add()
    parts.fill()
    assert counts(parts).failed == 1
    assert find_added(parts.records) == "tones"
    parts.drop().cancel("tones")
    assert parts.shape() == vector_names(FIRST)
    assert parts.records.known().keys() == {"pixels"}
    with pytest.raises(NotFound, match="no encoder is being added"):
        find_added(parts.records)
    parts.add()
    assert counts(parts).left == 3, "it is tried anew, and no vector of before is there"
    parts.fill()
    parts.check_vectors(Tones())


def test_the_old_one_is_kept_while_images_need_it(parts: Migrating) -> None:
    teach(parts, 2)
    parts.add()
    parts.fill()
    parts.switch()("tones")
    teach(parts, 1)  # by a worker that has not seen the switch yet
    with pytest.raises(Conflict, match="1 images have no vector of tones yet"):
        parts.drop()("pixels")
    parts.fill()
    parts.drop()("pixels")
    assert parts.shape() == vector_names(SECOND)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("step", ["add_vector", "add", "set_fill"])
def test_killed_while_it_is_added(parts: Migrating, step: str, side: str) -> None:
    teach(parts, 3)
    killer = Once(step, die)
    with pytest.raises(Killed):
        parts.add(records=Hooked(parts.records, **{side: killer}), engine=Hooked(parts.engine, **{side: killer}))
    assert active(parts) == "pixels"
    if "tones" not in parts.records.known():
        parts.add()
    parts.fill()
    assert parts.switch()("tones").counts.filled == 3
    parts.check_vectors()


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_while_it_is_switched(parts: Migrating, side: str) -> None:
    teach(parts, 3)
    parts.judge()
    parts.add()
    parts.fill()
    with pytest.raises(Killed):
        parts.switch(records=Hooked(parts.records, **{side: Once("switch", die)}))("tones")
    assert active(parts) == {"before": "pixels", "after": "tones"}[side]
    if side == "before":
        parts.switch()("tones")
    parts.check_vectors()
    assert parts.of(parts.engine, SECOND).judgements.current(parts.tenant) is not None


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("step", ["begin_drop", "drop_vector", "compact", "delete"])
def test_killed_while_it_is_dropped(parts: Migrating, step: str, side: str) -> None:
    teach(parts, 3)
    parts.judge()
    parts.add()
    parts.fill()
    parts.switch()("tones")
    killer = Once(step, die)
    drop = parts.drop(Hooked(parts.records, **{side: killer}), Hooked(parts.engine, **{side: killer}))
    with pytest.raises(Killed):
        drop("pixels")
    assert active(parts) == "tones"
    if "pixels" in parts.records.known():
        parts.drop()("pixels")
    assert parts.shape() == vector_names(SECOND)
    assert (set(parts.records.known()), len(parts.records.dropping())) == ({"tones"}, 0)
    assert parts.of(parts.engine, FIRST).judgements.current(parts.tenant) is None
    assert parts.vectors_of(SECOND).keys() == {
        each.image_id for each in parts.added.images.page(parts.tenant, [], 10)[0]
    }


def test_one_that_is_switched_to_while_it_is_dropped_stays(parts: Migrating) -> None:
    teach(parts, 2)
    parts.add()
    parts.fill()

    def switch() -> None:
        with parts.database.write() as connection:
            connection.execute(active_encoder.update().values(name="tones", before="pixels"))

    with pytest.raises(Conflict, match="stays"):
        parts.drop(records=Hooked(parts.records, after=Once("begin_drop", switch)))("tones")
    assert parts.records.dropping() == set()
    assert parts.shape() == vector_names(FIRST, SECOND)
