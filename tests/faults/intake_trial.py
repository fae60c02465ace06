"""The trial of the intake's guarantee: what producers sent, and what became of each entry."""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psutil

from schemas.errors import Unavailable
from schemas.image import State
from services.bootstrap.wire_intake import streams_of
from services.cli.own_service import free_port
from services.cli.show_intake import intake_access
from services.intake.streams.redis_streams import Streams
from services.intake.streams.stream_users import Role, StreamUsers
from services.settings import IntakeSettings, Settings
from tests.faults.intake_producers import (
    PRODUCERS,
    Contents,
    PlainCelery,
    PlainRedis,
    Producer,
    RedisCli,
    Said,
    find_redis_cli,
)
from tests.shapes import KINDS, picture
from tests.stack import ENCODER, Stack, new_folder, running

TENANT = "default"
ENDS = frozenset({"remembered", "rejected", "removed", "dead"})
DIMENSION = 1280
QUIET_SECONDS = 180.0
"""In which something must end, as long as entries are open."""
CALM_SECONDS = (1.0, 4.0)
"""Between two faults, once the process that was ended is there again."""


@dataclass(frozen=True)
class Intake:
    """A running service, and its streams as an operator sees them."""

    stack: Stack
    settings: Settings
    streams: Streams
    user_url: str

    @property
    def stream(self) -> str:
        return self.streams.keys.intake(TENANT)

    def waiting(self) -> int:
        """How many entries lie on the stream; none, where nobody answers, so that producers see what that is like."""
        try:
            return self.streams.backlog(TENANT).entries
        except Unavailable:
            return 0

    def ended(self) -> dict[str, list[tuple[str, str]]]:
        """How each entry ended, with the id of its event: once, if all is well."""
        found = defaultdict[str, list[tuple[str, str]]](list)
        for _, said in self.streams.results(TENANT):
            if said["status"] in ENDS:
                found[said["entry"]].append((said["status"], said.get("id", "")))
        return found


@contextmanager
def intake_service(**settings: str) -> Iterator[Intake]:
    """A service that strangers reach by a port, as a user who may only send."""
    port = free_port()
    with new_folder() as folder, ExitStack() as opened:
        given = {"INTAKE__PORT": str(port), "INTAKE__RESULTS": "10000000", **settings}
        stack = opened.enter_context(running(folder, **given))
        own = Settings(data=folder, intake=IntakeSettings(port=port, results=10_000_000))
        streams = streams_of(own)
        opened.callback(streams.close)
        users = StreamUsers(streams._redis, streams.keys)
        new = users.add("stranger", TENANT, Role.SEND)
        yield Intake(stack, own, streams, f"redis://stranger:{new.password}@127.0.0.1:{port}")


def producers(intake: Intake, contents: Contents) -> list[Producer]:
    """Eight of them, of every kind that this machine has."""
    celery = intake_access(intake.settings, intake.streams.keys, TENANT).celery
    cli = RedisCli if find_redis_cli() else PlainRedis
    made: list[Producer] = [PlainCelery(f"celery-{n}", contents, intake.waiting, celery, TENANT) for n in range(2)]
    made += [cli(f"cli-{n}", contents, intake.waiting, intake.user_url, intake.stream) for n in range(2)]
    number = PRODUCERS - len(made)
    made += [PlainRedis(f"redis-{n}", contents, intake.waiting, intake.user_url, intake.stream) for n in range(number)]
    return made


def contents(forgotten: str) -> Contents:
    """What they send."""
    return Contents(ENCODER, DIMENSION, [picture(kind) for kind in KINDS * 4], forgotten)


def break_things(stack: Stack, faults: Sequence[str]) -> None:
    """Kill processes, one after the other, each once the one before is there again."""
    for name in faults:
        process = stack.child(name)
        process.kill()
        psutil.wait_procs([process], 10)
        stack.child(name)  # waits for another
        time.sleep(random.uniform(*CALM_SECONDS))


def settle(intake: Intake) -> dict[str, list[tuple[str, str]]]:
    """Wait until no entry is open, and return how each has ended."""
    intake.streams.ping()
    before, since = -1, time.monotonic()
    while True:
        ended = intake.ended()
        if not intake.waiting() and not intake.streams.accepted_ids(TENANT):
            return intake.ended()
        if len(ended) != before:
            before, since = len(ended), time.monotonic()
        assert time.monotonic() - since < QUIET_SECONDS, f"{intake.waiting()} entries are open for ever"
        time.sleep(1)


def check(intake: Intake, made: Sequence[Producer], forgotten: str) -> Counter[str]:
    """Every entry has ended once and as it should; what became of how many."""
    ended = settle(intake)
    assert {entry: ends for entry, ends in ended.items() if len(ends) != 1} == {}
    of_event = defaultdict[str, list[str]](list)
    for [(status, event_id)] in ended.values():
        of_event[event_id].append(status)
    counts = Counter(status for [(status, _)] in ended.values())
    for producer in made:
        if isinstance(producer, PlainCelery):
            counts["not relayed"] += sum(name not in of_event for name in producer.sent)
            continue
        lost = [entry for entry in producer.sent if entry not in ended]
        assert lost == [], f"{producer.name}: {len(lost)} of {len(producer.sent)} have not ended"
        for entry, said in producer.sent.items():
            assert ended[entry][0][0] in _allowed(said), (said.id, ended[entry])
    dead = [letter.entry for letter in intake.streams.dead(TENANT)]
    assert sorted(dead) == sorted(entry for entry, [(status, _)] in ended.items() if status in {"rejected", "dead"})
    _check_memory(intake, made, of_event, forgotten)
    return counts


def _allowed(said: Said) -> set[str]:
    return {"remembered", "removed"} if said.ends == "forgotten" else {said.ends}


def _check_memory(intake: Intake, made: Sequence[Producer], of_event: dict[str, list[str]], forgotten: str) -> None:
    """The memory holds what the results say, and nothing else; of each image the latest."""
    images = {image.image_id: image for image in intake.stack.client.images() if image.source is None}
    assert [image.image_id for image in images.values() if image.subject == forgotten] == []
    assert {image.state for image in images.values()} == {State.REMEMBERED}
    remembered = {
        said.image_id
        for producer in made
        for said in producer.sent.values()
        if said.ends == "remembered" and "remembered" in of_event.get(said.id, ())
    }
    assert images.keys() == remembered
    for producer in made:
        if not isinstance(producer, PlainCelery):  # workers relay side by side
            assert images[f"{producer.name}-latest"].labels == [producer.latest], producer.name
