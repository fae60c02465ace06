"""Promise 6: a decision can be recomputed from its own explanation; and what is taught is known a moment later."""

import base64
import math
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from tests.support.running_service import Stack, fields, unique
from tests.support.shape_pictures import picture
from visual_memory.schemas.classify_options import ClassifyOptions, Effort, Prune, Vote
from visual_memory.schemas.decision import Decision
from visual_memory.schemas.filter import Filter

DIMENSION = 1280


class Taught:
    """Three classes of four pictures each, under a source of their own."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.source = unique("classes")
        self.ids: dict[str, list[str]] = {
            kind: stack.teach(*(picture(kind) for _ in range(4)), labels=[kind], source=self.source)
            for kind in ("disc", "bars", "checks")
        }
        stack.remembered([image_id for ids in self.ids.values() for image_id in ids])

    def ask(self, *pictures: bytes, **options: Any) -> list[Decision]:
        where = Filter.model_validate({"source": self.source, **options.pop("filter", {})})
        asked = ClassifyOptions.model_validate({"k": 4, **options, "filter": where})
        return self.stack.client.classify(pictures, asked).decisions


@pytest.fixture(scope="module")
def taught(stack: Stack) -> Taught:
    return Taught(stack)


def by_hand(decision: Decision, options: ClassifyOptions) -> dict[str, float]:
    """The shares of the classes, from nothing but the neighbours' ranks, similarities and labels."""
    formulas: dict[Vote, Callable[[int, float], float]] = {
        Vote.PLURALITY: lambda _rank, _similarity: 1.0,
        Vote.DISTANCE: lambda _rank, similarity: math.exp(-(1 - similarity)),
        Vote.SOFTMAX: lambda _rank, similarity: math.exp(similarity / options.temperature),
        Vote.RANK: lambda rank, _similarity: 1 / (rank + options.alpha),
    }
    weigh = formulas[options.vote]
    scores: dict[str, float] = defaultdict(float)
    for neighbour in decision.neighbours:
        assert neighbour.weight == pytest.approx(weigh(neighbour.rank, neighbour.similarity))
        for label in neighbour.labels:
            scores[label] += neighbour.weight
    total = sum(scores.values())
    return {label: score / total for label, score in scores.items()}


def test_several_pictures_are_answered_in_their_order(taught: Taught) -> None:
    kinds = ["checks", "disc", "bars", "disc"]
    assert [decision.label for decision in taught.ask(*map(picture, kinds))] == kinds


def test_a_new_class_is_right_a_moment_after_it_was_taught(taught: Taught) -> None:
    source, query = unique("new-class"), picture("cross")
    where = {"source": [taught.source, source]}
    [before] = taught.ask(query, filter=where)
    assert before.label in taught.ids
    ids = taught.stack.teach(*(picture("cross") for _ in range(4)), labels=["cross"], source=source)
    taught.stack.remembered(ids)
    [after] = taught.ask(query, filter=where)
    assert after.label == "cross"
    assert {neighbour.image_id for neighbour in after.neighbours} == set(ids)


@pytest.mark.parametrize("vote", list(Vote))
def test_the_decision_is_recomputed_by_hand(taught: Taught, vote: Vote) -> None:
    options = ClassifyOptions(
        k=9,
        vote=vote,
        alpha=1.5,
        temperature=0.2,
        effort=Effort.EXACT,
        filter=Filter.model_validate({"source": taught.source}),
    )
    answer = taught.stack.client.classify([picture("bars")], options)
    [decision] = answer.decisions
    assert answer.options == options.model_copy(update={"prune": Prune.NONE}), "no judgement was asked for"
    assert decision.voters == len(decision.neighbours) == 9
    assert [neighbour.rank for neighbour in decision.neighbours] == list(range(9))
    similarities = [neighbour.similarity for neighbour in decision.neighbours]
    assert similarities == sorted(similarities, reverse=True)
    shares = by_hand(decision, options)
    assert {share.label: share.share for share in decision.shares} == pytest.approx(shares)
    first, second = sorted(shares.values(), reverse=True)[:2]
    assert shares[decision.label or ""] == pytest.approx(first)
    assert decision.margin == pytest.approx(first - second)


def test_show_hides_neighbours_but_lets_them_vote(taught: Taught) -> None:
    [decision] = taught.ask(picture("disc"), k=6, show=2)
    assert (decision.voters, len(decision.neighbours)) == (6, 2)


def test_fewer_images_than_k_is_no_error(taught: Taught) -> None:
    [decision] = taught.ask(picture("disc"), k=1000)
    assert decision.voters == 12


def test_a_filter_decides_who_votes(taught: Taught) -> None:
    [decision] = taught.ask(picture("disc"), filter={"labels": ["bars", "checks"]})
    assert decision.label in {"bars", "checks"}
    [one] = taught.ask(picture("disc"), filter={"image_id": taught.ids["bars"][:1]})
    assert [neighbour.image_id for neighbour in one.neighbours] == taught.ids["bars"][:1]


def test_a_filter_that_matches_nothing_is_a_clear_answer(taught: Taught) -> None:
    [decision] = taught.ask(picture("disc"), filter={"labels": "unheard-of"})
    assert (decision.label, decision.voters, decision.shares) == (None, 0, [])
    assert decision.reason == "no remembered image meets the filter"


def test_json_with_base64(taught: Taught) -> None:
    body = {
        "pictures": [base64.b64encode(picture(kind)).decode() for kind in ("bars", "disc")],
        "k": 3,
        "filter": {"source": taught.source},
    }
    answer = taught.stack.http.post("/v1/classify", json=body)
    assert answer.status_code == 200
    assert [decision["label"] for decision in answer.json()["decisions"]] == ["bars", "disc"]


def test_vectors_vote_like_pictures_whatever_their_length(taught: Taught) -> None:
    rows = np.random.default_rng(1).normal(size=(2, DIMENSION))
    options = ClassifyOptions(k=12, effort=Effort.EXACT, filter=Filter.model_validate({"source": taught.source}))
    vectors = [rows[0].tolist(), (1e6 * rows[0]).tolist(), rows[1].tolist()]
    same, longer, other = taught.stack.client.classify_vectors(vectors, options).decisions
    assert [neighbour.image_id for neighbour in same.neighbours] == [each.image_id for each in longer.neighbours]
    assert [neighbour.similarity for neighbour in same.neighbours] == pytest.approx(
        [neighbour.similarity for neighbour in longer.neighbours], abs=1e-5
    )
    assert [each.similarity for each in other.neighbours] != [each.similarity for each in same.neighbours]


def test_concurrent_requests_share_encoder_batches(taught: Taught) -> None:
    stack, clients, rounds = taught.stack, 8, 5
    count, total = (stack.metric(f"visual_memory_batch_size_{what}") for what in ("count", "sum"))
    of_one = stack.metric("visual_memory_batch_size_bucket", le="1.0")
    pictures = [picture("disc") for _ in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        decisions = pool.map(lambda data: [taught.ask(data)[0].label for _ in range(rounds)], pictures)
        assert {label for labels in decisions for label in labels} == {"disc"}
    batches = stack.metric("visual_memory_batch_size_count") - count
    assert stack.metric("visual_memory_batch_size_sum") - total == clients * rounds
    assert batches < clients * rounds
    assert batches > stack.metric("visual_memory_batch_size_bucket", le="1.0") - of_one, "no batch of several pictures"


def test_options_by_multipart(taught: Taught) -> None:
    answer = taught.stack.http.post(
        "/v1/classify",
        files=[("files", ("p", picture("disc")))],
        data={"options": fields(k=2, vote="plurality", filter={"source": taught.source}, show=0)},
    )
    [decision] = answer.json()["decisions"]
    assert (decision["label"], decision["voters"], decision["neighbours"]) == ("disc", 2, [])


def test_a_level_and_backing_off(stack: Stack) -> None:
    source = unique("paths")
    ids = [
        image_id
        for label in ("shape/round/disc", "shape/round/ring", "pattern/bars")
        for image_id in stack.teach(picture("bars" if "bars" in label else "disc"), labels=[label], source=source)
    ]
    stack.remembered(ids)
    asked = {"k": 3, "vote": "plurality", "effort": Effort.EXACT, "filter": Filter({"source": source})}

    def ask(**options: Any) -> Decision:
        return stack.client.classify([picture("disc")], ClassifyOptions.model_validate({**asked, **options})).decisions[
            0
        ]

    assert ask(level=1).label == "shape"
    assert ask(level=2).label == "shape/round"
    backed = ask(back_off=0.6)
    assert backed.label == "shape/round"
    assert backed.shares[0].share == pytest.approx(2 / 3)
    nothing = ask(back_off=0.9)
    assert (nothing.label, nothing.voters) == (None, 3)
    assert "90.0% of the vote" in (nothing.reason or "")


def test_the_memory_of_a_moment(stack: Stack) -> None:
    source = unique("past")
    [image_id] = stack.teach(picture("disc"), labels=["before"], source=source)
    accepted = stack.remembered([image_id])[image_id].accepted_at
    answer = stack.http.patch(f"/v1/images/{image_id}", json={"labels": ["after"]})
    assert "history" not in answer.json(), "callers see an image as ever"
    labels = [
        stack.client.classify([picture("disc")], ClassifyOptions(filter=Filter({"source": source}), as_of=moment))
        for moment in (None, accepted, accepted - timedelta(microseconds=1))
    ]
    assert [decisions.decisions[0].label for decisions in labels] == ["after", "before", None]


@pytest.mark.parametrize("options", [{"unknown_above": 0.95}, {"coverage": 0.9}])
def test_a_memory_that_was_not_judged_is_a_clear_refusal(stack: Stack, options: dict[str, float]) -> None:
    with stack.caller(stack.new_key(unique("unjudged"))) as http:
        answer = http.post("/v1/classify", json={"vectors": [[1.0] * DIMENSION], **options})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_judged")
    assert "visual-memory judge" in answer.json()["detail"]


def test_what_is_stored_is_whole_and_its_deletion_is_logged(stack: Stack) -> None:
    label = unique("stored")
    stack.remembered(stack.teach(picture("disc"), picture("disc"), labels=[label]))
    options = ClassifyOptions(filter=Filter({"labels": label}), show=1, store=True)
    shown, other = stack.client.classify([picture("disc"), picture("disc")], options).decisions
    assert len(shown.neighbours) == 1
    stored = stack.client.decision(str(shown.id))
    assert stored.asked_by.endswith(f"(key {str(stack.client.key).split('_')[1]})")
    assert len(stored.decision.neighbours) == 2
    assert [each.id for each in stack.client.decisions(label, limit=2).data] == [other.id, shown.id]
    stack.client.delete_decision(str(shown.id))
    assert [each.id for each in stack.client.decisions(label, limit=2).data] == [other.id]
    line = next(line for line in stack.client.audit().data if line.action == "decisions.delete")
    assert (line.decision, line.outcome) == (shown.id, "done")
