"""Re-ranking by a vision-language model, in a whole service that is set up for one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from tests.support.running_service import Stack, unique
from tests.support.shape_pictures import as_file
from tests.support.vision_server import BUDGET, MODEL, TENANT, Server
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.decision import Decision, Rerank
from visual_memory.services.classification.reranking.rerank import NO_PICTURE, NOT_ALLOWED
from visual_memory.services.cli.app import app
from visual_memory.services.client.http_client import Client

COLD, WARM = "cold", "warm"
_shades = count()


def bluish() -> bytes:
    return plain(10, next(_shades), 240)


def reddish() -> bytes:
    return plain(210, next(_shades), 40)


def plain(*colour: int) -> bytes:
    return as_file(PIL.Image.new("RGB", (64, 64), colour))


@contextmanager
def asking(stack: Stack, tenant: str = TENANT) -> Iterator[Client]:
    """Whoever has a new key, with a budget of its own; the tenant holds two cold pictures and a warm one."""
    with Client(stack.url, stack.new_key(tenant)) as client:
        if not client.labels().data:
            own = replace(stack, client=client)
            own.remembered([*own.teach(bluish(), bluish(), labels=[COLD]), *own.teach(reddish(), labels=[WARM])])
        yield client


def options(**changes: Any) -> ClassifyOptions:
    return ClassifyOptions.model_validate({"k": 3, "vote": "plurality", "rerank": True, **changes})


def outcome(decision: Decision) -> Rerank:
    assert decision.rerank is not None
    return decision.rerank


def test_the_model_decides_close_votes_within_the_budget_and_once(stack: Stack, eye: Server) -> None:
    before, query = len(eye.seen), reddish()
    with asking(stack) as client:
        [vote] = client.classify([query], options(rerank=False)).decisions
        answer = client.classify([query], options(show=1))
        [first] = answer.decisions
        assert (vote.label, vote.rerank) == (COLD, None)
        assert (first.label, outcome(first)) == (WARM, Rerank(model=MODEL, label=WARM, voted=COLD))
        assert (first.shares, first.margin, first.neighbours) == (vote.shares, vote.margin, vote.neighbours[:1])
        assert answer.options == options(show=1, prune="none"), "as they were applied"
        assert sorted(eye.seen[-1].labels) == [[COLD], [COLD], [WARM]], "the model sees more than is shown"

        [again] = client.classify([query], options(show=1)).decisions
        assert (again.label, outcome(again).cached) == (WARM, True)
        [clear] = client.classify([query], options(k=1)).decisions
        assert "the vote is clear" in (outcome(clear).fallback or "")
        assert len(eye.seen) == before + 1

        others = client.classify([reddish(), reddish(), query], options()).decisions
    over = f"the key has used its {BUDGET} questions of the day"
    assert sorted(outcome(each).fallback or "" for each in others) == ["", "", over]
    assert others[2].label == WARM
    assert len(eye.seen) == before + BUDGET
    assert eye.faults == []


def test_what_a_model_decided_is_kept_whole_and_replayed_by_the_vote(stack: Stack, eye: Server) -> None:
    asked = len(eye.seen)
    with asking(stack) as client:
        [decision] = client.classify([reddish()], options(show=1, store=True)).decisions
        stored, replay = client.decision(str(decision.id)).decision, client.replay(str(decision.id))
    assert stored.model_copy(update={"neighbours": stored.neighbours[:1]}) == decision
    assert (len(stored.neighbours), stored.label, outcome(stored).voted) == (3, WARM, COLD)
    assert (replay.before, replay.changed, replay.decision.label) == (COLD, False, COLD)
    assert len(eye.seen) == asked + 1, "a replay asks no model"


def test_pictures_of_a_tenant_that_is_not_named_stay_here(stack: Stack, eye: Server) -> None:
    before = len(eye.seen)
    with asking(stack, unique("unnamed")) as client:
        [decision] = client.classify([reddish()], options()).decisions
    assert (decision.label, outcome(decision)) == (COLD, Rerank(voted=COLD, fallback=NOT_ALLOWED))
    assert len(eye.seen) == before


def test_a_vector_cannot_be_shown_to_a_model(stack: Stack) -> None:
    vector = np.random.default_rng(1).normal(size=1280).tolist()
    with asking(stack) as client:
        [decision] = client.classify_vectors([vector], options()).decisions
    assert (decision.label, outcome(decision)) == (COLD, Rerank(voted=COLD, fallback=NO_PICTURE))


def test_on_the_command_line(stack: Stack, eye: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked.png"
    asked.write_bytes(reddish())
    with asking(stack) as client:
        given = {"VISUAL_MEMORY_URL": client.url, "VISUAL_MEMORY_KEY": client.key}

        def shown() -> str:
            words = ["classify", str(asked), "-k", "3", "--vote", "plurality", "--rerank"]
            ended = CliRunner().invoke(app, words, env=given)
            assert ended.exit_code == 0, ended.output
            return " ".join(ended.output.split())

        assert f": {WARM} (" in (told := shown())
        assert f"re-ranked by {MODEL}; the vote was for {COLD}" in told
        assert f"re-ranked by {MODEL} (cached); the vote was for {COLD}" in shown()
        asked.write_bytes(reddish())
        monkeypatch.setattr(eye, "fault", lambda handler, _: handler.say(b"{}", 503))
        assert f": {COLD} (" in (told := shown())
        assert "not re-ranked: the model's server refused the request with status 503" in told
