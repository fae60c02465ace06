"""A wrong label is found, costs its image weight, and is muted or corrected by command, all on a running service."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from typer.testing import CliRunner

from tests.support.running_service import Stack, unique, until
from tests.support.shape_pictures import picture
from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.background_job import JobState
from visual_memory.schemas.classify_options import ClassifyOptions, Effort, Prune
from visual_memory.schemas.decision import Neighbour
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields, State
from visual_memory.schemas.judgement import Suspicion
from visual_memory.services.cli.app import app
from visual_memory.services.client.http_client import Client

KINDS = ("disc", "bars")


@dataclass(frozen=True)
class Taught:
    """A tenant with six pictures of each kind, and one disc that is called bars."""

    client: Client
    disc: bytes
    new_key: Callable[[Scope], str]

    def neighbour(self, prune: Prune | None = None) -> Neighbour | None:
        """The mislabelled image as it votes on a disc."""
        options = ClassifyOptions(k=7, effort=Effort.EXACT, prune=prune)
        answer = self.client.classify([self.disc], options)
        [decision] = answer.decisions
        assert answer.options.prune == (prune or Prune.NONE)
        assert decision.label == "disc"
        return next((each for each in decision.neighbours if each.image_id == "odd"), None)

    def command(self, *words: str) -> str:
        """What a command prints."""
        done = CliRunner().invoke(app, [*words, "--url", self.client.url, "--key", self.client.key or ""])
        assert done.exit_code == 0, done.output
        return done.stdout


@pytest.fixture
def taught(stack: Stack) -> Iterator[Taught]:
    tenant = unique("curated")
    with Client(stack.url, stack.new_key(tenant)) as client:
        sent = [(picture(kind), ImageFields(labels=[kind])) for kind in KINDS for _ in range(6)]
        client.add([*sent, (picture("disc"), ImageFields(labels=["bars"], image_id="odd"))])
        until(lambda: {image.state for image in client.images().data} == {State.REMEMBERED}, "all to be remembered")
        yield Taught(client, picture("disc"), partial(stack.new_key, tenant))


def test_a_wrong_label_is_found_weighs_less_is_silent_and_comes_back(taught: Taught) -> None:
    client = taught.client
    judged = json.loads(taught.command("judge", "--json"))
    assert (judged["current"]["images"], judged["stale"], judged["job"]["state"]) == (13, False, JobState.DONE)
    [odd, *_] = client.suspects(Suspicion.LABEL).data
    assert (odd.image_id, odd.labels, odd.suggestion) == ("odd", ["bars"], "disc")
    before, pruned = taught.neighbour(), taught.neighbour(Prune.SOFT)
    assert before is not None
    assert pruned is not None
    assert before.reliability == 1
    assert pruned.reliability <= 1.75 / 7, "it voted wrong on six discs"
    assert pruned.weight == pytest.approx(before.weight * pruned.reliability)
    hard = ClassifyOptions(k=7, effort=Effort.EXACT, prune=Prune.HARD, prune_above=6)
    assert "odd" not in {each.image_id for each in client.classify([taught.disc], hard).decisions[0].neighbours}

    stored = client.classify([taught.disc], ClassifyOptions(k=7, effort=Effort.EXACT, store=True)).decisions[0].id
    words = ["curate", "mute", "--label", "disc", "--url", client.url, "--key", client.key or ""]
    refused = CliRunner().invoke(app, words, input="n\n")
    assert (refused.exit_code, "mute: 6 images" in refused.stdout) == (1, True)
    assert "1 of the last 1 stored decisions would have another label" in refused.stdout
    assert f"{stored}: bars instead of disc" in refused.stdout
    for scope, told in ((Scope.REMEMBER, False), (Scope.ADMIN, True)):
        words = ["curate", "mute", "--image-id", "odd", "--url", client.url, "--key", taught.new_key(scope)]
        said = CliRunner().invoke(app, words, input="n\n").stdout
        assert ("mute: 1 images" in said, "none of the last 1 stored" in said) == (True, told), "what the key may see"
    assert client.images(Filter({"state": "muted"})).data == [], "nobody said yes"

    assert "1 images changed" in taught.command("curate", "mute", "--suspects", "label", "--top", "1", "--yes")
    assert client.image("odd").state is State.MUTED
    assert taught.neighbour() is None
    assert "odd" not in {each.image_id for each in client.suspects().data}, "it is no suspect while it is silent"
    taught.command("curate", "unmute", "--filter", '{"state": "muted"}', "--yes")
    assert taught.neighbour() == before
    assert client.judgement().stale, "what was touched is looked at by the next"
    taught.command("judge")
    assert client.judgement().stale is False

    shown = taught.command("curate", "relabel", "--suspects", "label", "--top", "1", "--yes")
    assert client.image("odd").labels == ["disc"]
    assert client.judgement().stale, "it counts all the same"
    *_, change_id = shown.split()
    assert f"to undo it: visual-memory curate undo {change_id}" in shown
    assert "1 images changed back" in taught.command("curate", "undo", change_id)
    assert client.image("odd").labels == ["bars"]
    undo, relabel, *_ = taught.command("curate", "history").splitlines()
    assert f"undo  1 images, by {client.change(change_id).by}, undoes {change_id}" in undo
    assert relabel.startswith(change_id)
    assert "undone by" in relabel
    assert [line.action for line in client.audit(limit=20).data if line.action not in {"accept", "judge", "read"}] == [
        "undo",
        "relabel",
        "unmute",
        "mute",
    ]


def test_classes_tell_how_they_do_and_a_removal_takes_what_goes_out_of_it(taught: Taught) -> None:
    client = taught.client
    assert {(each.accuracy, each.thin) for each in client.labels().data} == {(None, None)}, "nothing is judged"
    taught.command("judge")
    counts = {each.label: each for each in client.labels().data}
    assert (counts["bars"].images, counts["bars"].confused_with, counts["bars"].thin) == (7, {"disc": 1}, True)
    assert counts["bars"].accuracy == pytest.approx(6 / 7)
    assert counts["disc"].accuracy == 1
    table = [line.split() for line in taught.command("labels", "--thin", "7").splitlines()]
    assert [words[:3] for words in table if "thin" in words] == [["disc", "6", "100.0%"]]
    assert ["bars", "7", "85.7%", "disc", "1"] in table

    assert "disc" in taught.command("suspects", "--kind", "label")
    shown = taught.command("curate", "remove", "--suspects", "label", "--reason", "wrong", "--yes", "--json")
    assert json.loads(shown)["images"] == 1
    current = client.judgement().current
    assert current is not None
    assert [(each.label, each.images, each.confused_with) for each in current.classes] == [
        ("bars", 6, {}),
        ("disc", 6, {}),
    ]
    assert taught.neighbour() is None
    assert client.suspects(Suspicion.LABEL).data == []
    answer = client.classify([taught.disc], ClassifyOptions(prune=Prune.SOFT))
    assert answer.options.prune is Prune.SOFT, "the judgement counts still"
