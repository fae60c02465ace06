"""One decision with everything at once: a level, backing off, a moment, pruning, calibration; kept and questioned."""

from datetime import datetime
from typing import Any

import pytest

from tests.support.shape_pictures import picture
from tests.support.wired_service import Parts
from visual_memory.schemas.classify_options import ClassifyOptions, Prune
from visual_memory.schemas.decision import Decision, Novelty
from visual_memory.schemas.explanation import DecisionPreviewRequest, ReplayRequest
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.moments import now
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.voting.decide import decide

DISC, RING, BARS = "shape/round/disc", "shape/round/ring", "pattern/bars"


@pytest.fixture
def moment(parts: Parts) -> datetime:
    """A judged memory, in which one image is mislabelled; other labels and another image came after the moment.

    The nine others of each image that looks like a disc are those who vote on it: it has 6 wrong votes, or 9.
    """
    parts.teach(*(picture("disc") for _ in range(4)), labels=[DISC])
    parts.teach(*(picture("disc") for _ in range(4)), labels=[RING])
    parts.teach(*(picture("bars") for _ in range(11)), labels=[BARS])
    parts.teach(picture("disc"), labels=[BARS], image_id="mislabelled")
    then = now()
    parts.teach(picture("disc"), image_id="late", labels=["late/comer"])
    parts.curate(action="relabel", filter={"labels": RING}, labels=["shape/square"])
    assert parts.judge(k=9) is not None
    return then


def asked(moment: datetime, **changes: Any) -> dict[str, Any]:
    options = {"k": 9, "prune": "soft", "level": 3, "back_off": 0.75, "as_of": moment}
    return {**options, "coverage": 0.8, "unknown_above": 1, **changes}


def measured(decision: Decision) -> tuple[Novelty | None, float | None]:
    return decision.novelty, decision.set_share


def recounted(decision: Decision, moment: datetime) -> Decision:
    """The decision that comes out of what it shows."""
    options = ClassifyOptions.model_validate(asked(moment))
    again = decide(decision.neighbours, options, decision.encoder, *measured(decision))
    return again.model_copy(update={"id": decision.id})


def test_it_shows_all_that_it_is_made_of(parts: Parts, moment: datetime) -> None:
    [decision] = parts.keep(picture("disc"), **asked(moment))
    labels = {label for each in decision.neighbours for label in each.labels}
    assert labels == {DISC, RING, BARS}, "the labels of then, and nobody who came later"
    assert {each.reliability for each in decision.neighbours} == {1.75 / 7, 1.75 / 10}
    assert parts.decisions().load(parts.tenant, str(decision.id)).options.prune is Prune.SOFT
    assert decision.label == "shape/round", "where discs and rings agree"
    assert decision.novelty is not None
    assert decision.prediction_set is not None
    assert set(decision.prediction_set) <= labels, "the set is of the level that was asked for"
    stored = parts.decisions().load(parts.tenant, str(decision.id)).decision
    assert stored == decision == recounted(decision, moment)


def test_a_replay_runs_all_of_it_again(parts: Parts, moment: datetime) -> None:
    [decision] = parts.keep(picture("disc"), **asked(moment))
    replay = parts.explain().replay(parts.tenant, str(decision.id), ReplayRequest())
    assert replay.decision.model_copy(update={"id": decision.id}) == decision
    assert (replay.changed, replay.came, replay.gone, replay.relabelled, replay.reweighted) == (False, [], [], [], [])
    hard = asked(moment, prune="hard", prune_above=8, effort="exact")
    replay = parts.explain().replay(parts.tenant, str(decision.id), ReplayRequest.model_validate({"options": hard}))
    assert [each.neighbour.image_id for each in replay.gone] == ["mislabelled"]
    assert [each.labels for each in replay.came] == [[BARS]]
    again = decide(replay.decision.neighbours, replay.options, replay.decision.encoder, *measured(replay.decision))
    assert again == replay.decision


def test_a_counterfactual_flips_the_level_that_was_answered(parts: Parts, moment: datetime) -> None:
    [decision] = parts.keep(question := picture("disc"), **asked(moment))
    found = parts.explain().counterfactual(parts.tenant, str(decision.id))
    assert (found.label, found.becomes) == ("shape/round", "pattern/bars")
    assert {label for each in found.images for label in each.labels} <= {DISC, RING}, "those of then"
    vote = asked(moment, level=2, back_off=None, coverage=None, unknown_above=None)
    pivots = [each.image_id for each in found.images]
    parts.curate(action="mute", filter={"image_id": pivots[1:]})
    one_less = parts.ask(question, **vote)
    parts.curate(action="mute", filter={"image_id": pivots})
    flipped = parts.ask(question, **vote)
    assert (one_less.label, flipped.label) == (found.label, found.becomes)


def test_a_preview_prunes_and_knows_that_a_relabelling_leaves_the_past_alone(parts: Parts, moment: datetime) -> None:
    [past] = parts.keep(picture("disc"), **asked(moment, back_off=None))
    [present] = parts.keep(picture("disc"), **asked(moment, back_off=None, as_of=None))
    to_bars = DecisionPreviewRequest.model_validate(
        {"action": "relabel", "filter": {"labels": "shape"}, "labels": [BARS]}
    )
    preview = parts.explain().preview(parts.tenant, to_bars)
    assert [(each.id, each.after) for each in preview.changed] == [(present.id, BARS)]
    parts.curate(action="relabel", filter={"labels": "shape"}, labels=[BARS])
    replays = [parts.explain().replay(parts.tenant, str(each.id), ReplayRequest()) for each in (past, present)]
    assert [(each.changed, each.decision.label) for each in replays] == [(False, past.label), (True, BARS)]


def test_what_is_scrubbed_tells_nothing_that_the_removed_had_a_part_in(parts: Parts, moment: datetime) -> None:
    [decision] = parts.keep(picture("disc"), **asked(moment))
    request = RemovalRequest(filter=Filter({"image_id": "mislabelled"}), reason="asked to")
    parts.remove(request)
    stored = parts.decisions().load(parts.tenant, str(decision.id))
    assert stored.scrubbed == 1
    assert {each.reliability for each in stored.decision.neighbours} == {1}
    assert (stored.decision.novelty, stored.decision.prediction_set, stored.decision.set_share) == (None, None, None)
    assert recounted(stored.decision, moment) == stored.decision


def test_a_policy_of_the_settings_is_kept_with_the_decision(parts: Parts, moment: datetime) -> None:
    classify, pruning = parts.classify(), parts.classify(Prune.SOFT)
    options, query = ClassifyOptions.model_validate(asked(moment)), classify.embed(parts.tenant, [picture("disc")])
    pruned = pruning.decide(parts.tenant, query, options.model_copy(update={"prune": None}))
    assert pruned == classify.decide(parts.tenant, query, options)
    assert pruned.options.prune is Prune.SOFT
