"""The memory as it stood at a moment: what came later does not vote, and labels are those of then."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from tests.support.shape_pictures import picture
from tests.support.wired_service import Parts
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import MAX_HISTORY, ImagePatch
from visual_memory.schemas.moments import now
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.voting.decide import decide

LABELS = ("cat", "dog", "animal/owl", "animal/bat")
STEPS = 60


def amend(parts: Parts, image_id: str, **changes: Any) -> None:
    parts.amend_image()(parts.tenant, image_id, ImagePatch.model_validate(changes))


def relabel(parts: Parts, image_ids: list[str], labels: list[str]) -> None:
    parts.curate(action="relabel", filter={"image_id": image_ids}, labels=labels)


def remove(parts: Parts, image_id: str) -> None:
    request = RemovalRequest(filter=Filter({"image_id": image_id}), reason="asked to")
    parts.remove(request)


def seen(parts: Parts, as_of: datetime | None, **options: Any) -> dict[str, list[str]]:
    decision = parts.ask(picture("disc"), k=1000, as_of=as_of, **options)
    return {neighbour.image_id: neighbour.labels for neighbour in decision.neighbours}


@dataclass
class Past:
    """A plain model: what was there at each moment, each image with the picture and the labels that it had."""

    there: dict[str, tuple[bytes, list[str]]] = field(default_factory=dict)
    moments: list[tuple[datetime, dict[str, tuple[bytes, list[str]]]]] = field(default_factory=list)

    def note(self) -> None:
        self.moments.append((now(), dict(self.there)))

    def at(self, place: int) -> dict[str, list[str]]:
        """Who votes in a question as of a moment: what is still there with the same picture."""
        _, then = self.moments[place]
        return {
            image_id: labels
            for image_id, (data, labels) in then.items()
            if image_id in self.there and self.there[image_id][0] is data
        }


def step(parts: Parts, past: Past, random: Random) -> None:
    """Something that changes the memory, or only seems to."""
    image_id, labels = f"image-{random.randrange(8)}", random.sample(LABELS, random.randint(1, 2))
    held = past.there.get(image_id)
    match random.choice(["send", "send again", "amend", "amend", "relabel", "touch", "remove"]):
        case "send again" if held:
            parts.teach(held[0], image_id=image_id, labels=labels)
            past.there[image_id] = (held[0], labels)
        case "amend" if held:
            amend(parts, image_id, labels=labels, source=random.choice("abc"))
            past.there[image_id] = (held[0], labels)
        case "relabel":
            some = [f"image-{number}" for number in random.sample(range(8), 3)]
            relabel(parts, some, labels)
            past.there |= {each: (past.there[each][0], labels) for each in some if each in past.there}
        case "touch" if held:
            amend(parts, image_id, source=random.choice("abc"), labels=held[1])
        case "remove" if held and random.random() < 0.3:
            remove(parts, image_id)
            del past.there[image_id]
        case "send" if not held or random.random() < 0.3:
            data = picture(random.choice(["disc", "bars"]))
            parts.teach(data, image_id=image_id, labels=labels)
            past.there[image_id] = (data, labels)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_moment_is_as_a_plain_model_remembers_it(parts: Parts, seed: int) -> None:
    past, random, different = Past(), Random(seed), set()
    for number in range(1, STEPS + 1):
        past.note()
        step(parts, past, random)
        if number % 20 == 0:
            for place, (moment, _) in enumerate(past.moments):
                assert seen(parts, moment) == past.at(place)
                different.add(str(past.at(place)))
    assert seen(parts, None) == {image_id: labels for image_id, (_, labels) in past.there.items()}
    assert len(different) > STEPS / 3, "it was not always the same"


def test_what_changed_at_that_very_moment_had_changed(parts: Parts) -> None:
    parts.teach(picture("disc"), image_id="one", labels=["cat"])
    amend(parts, "one", labels=["dog"])
    [image] = parts.held("one")
    [former] = image.history
    instant = timedelta(microseconds=1)
    assert seen(parts, image.accepted_at) == {"one": ["cat"]}
    assert seen(parts, image.accepted_at - instant) == {}
    assert seen(parts, former.until) == {"one": ["dog"]}
    assert seen(parts, former.until - instant) == {"one": ["cat"]}


def test_a_change_of_anything_but_labels_is_no_history(parts: Parts) -> None:
    data = picture("disc")
    parts.teach(data, image_id="one", labels=["cat"])
    amend(parts, "one", source="b", metadata={"age": 4})
    amend(parts, "one", labels=["cat"])
    parts.teach(data, image_id="one", labels=["cat"], source="c")
    assert parts.held("one")[0].history == []


def test_of_many_changes_the_last_are_known_and_before_them_the_image_does_not_vote(parts: Parts) -> None:
    parts.teach(picture("disc"), image_id="one", labels=["label-0"])
    moments = [now()]
    for number in range(1, MAX_HISTORY + 4):
        amend(parts, "one", labels=[f"label-{number}"])
        moments.append(now())
    [image] = parts.held("one")
    assert len(image.history) == MAX_HISTORY
    found = [seen(parts, moment) for moment in moments]
    assert found == [{}] * 3 + [{"one": [f"label-{number}"]} for number in range(3, MAX_HISTORY + 4)]


def test_a_replaced_picture_has_no_past(parts: Parts) -> None:
    parts.teach(picture("disc"), image_id="one", labels=["cat"])
    amend(parts, "one", labels=["dog"])
    before = now()
    parts.teach(picture("disc"), image_id="one", labels=["owl"])
    assert parts.held("one")[0].history == []
    assert seen(parts, before) == {}
    assert seen(parts, now()) == {"one": ["owl"]}


def test_a_filter_speaks_of_the_present_labels(parts: Parts) -> None:
    parts.teach(picture("disc"), image_id="one", labels=["cat"])
    then = now()
    amend(parts, "one", labels=["dog"])
    assert seen(parts, then, filter={"labels": "dog"}) == {"one": ["cat"]}
    assert seen(parts, then, filter={"labels": "cat"}) == {}


def test_before_everything_nobody_votes_and_the_reason_says_so(parts: Parts) -> None:
    before = now()
    parts.teach(picture("disc"))
    decision = parts.ask(picture("disc"), as_of=before)
    assert (decision.label, decision.voters) == (None, 0)
    assert decision.reason == f"no remembered image that meets the filter had been accepted by {before.isoformat()}"


def test_the_decision_of_then_is_recomputed_from_what_it_shows(parts: Parts) -> None:
    parts.teach(picture("disc"), image_id="one", labels=["cat"])
    then = now()
    amend(parts, "one", labels=["dog"])
    answer = parts.answer(picture("disc"), as_of=then)
    [decision] = answer.decisions
    assert (decision.label, answer.options.as_of) == ("cat", then)
    assert decide(decision.neighbours, answer.options, decision.encoder) == decision
    assert parts.ask(picture("disc")).label == "dog"
