"""The trial of the intake's guarantee: what producers sent, and what became of each entry."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
from redis import Redis

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
from tests.support.running_service import ENCODER, Stack, new_folder, running
from tests.support.shape_pictures import KINDS, picture
from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.image import State
from visual_memory.services.bootstrap.wiring.wire_intake import streams_of
from visual_memory.services.cli.commands.intake import intake_access
from visual_memory.services.cli.temporary_service import free_port
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.redis_streams.stream_users import Role, StreamUsers
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.settings import IntakeSettings, Settings

TENANT = "default"
REDIS = "intake-redis"
ENDS = frozenset({"remembered", "rejected", "removed", "dead"})
ENDS_OF = {
    "remembered": {"remembered"},
    "rejected": {"rejected"},
    "dead": {"dead", "rejected"},  # by Celery it is an event, with a picture that is none
    "forgotten": {"remembered", "removed"},  # before the removal was asked for, and after
}
DIMENSION = 1280
QUIET_SECONDS = 180.0
"""In which something must end, as long as entries are open."""
ENDS_SECONDS = 60.0
LOSS_SECONDS = 3.0
"""Redis syncs its file every second; it writes up to two seconds later where a sync is still at work."""


@dataclass(frozen=True)
class Intake:
    """A running service, and its streams as an operator sees them."""

    stack: Stack
    streams: Streams
    user_url: str
    celery: Mapping[str, Any]
    broker: Any

    @property
    def stream(self) -> str:
        return self.streams.keys.intake(TENANT)

    def open(self) -> tuple[int, int, int]:
        """How many messages Celery has, how many entries lie on the stream, and how many are accepted and no more.

        Raises:
            Unavailable: nobody answers.
        """
        messages = int(self.broker.llen(self.stack.key_in_redis(self.celery["queue"])))
        return messages, self.streams.backlog(TENANT).entries, len(self.streams.accepted_ids(TENANT))

    def waiting(self) -> int:
        """The same in all; none, where nobody answers, so that producers see what that is like."""
        try:
            return sum(self.open())
        except Unavailable:
            return 0

    def receipt(self, removal: str) -> dict[str, Any] | None:
        """The record of a removal, once it is done."""
        record: dict[str, Any] = self.stack.http.get(f"/v1/removals/{removal}").json()
        return record if record["status"] == "done" else None

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
        celery = intake_access(own, streams.keys, TENANT).celery
        broker = opened.enter_context(Redis(unix_socket_path=str(DataPaths(folder).redis_socket)))
        yield Intake(stack, streams, f"redis://stranger:{new.password}@127.0.0.1:{port}", celery, broker)


def producers(intake: Intake, contents: Contents) -> list[Producer]:
    """Eight of them, of every kind that this machine has."""
    cli = RedisCli if find_redis_cli() else PlainRedis
    made: list[Producer] = [
        PlainCelery(f"celery-{n}", contents, intake.waiting, intake.celery, TENANT) for n in range(2)
    ]
    made += [cli(f"cli-{n}", contents, intake.waiting, intake.user_url, intake.stream) for n in range(2)]
    number = PRODUCERS - len(made)
    made += [PlainRedis(f"redis-{n}", contents, intake.waiting, intake.user_url, intake.stream) for n in range(number)]
    return made


def contents(forgotten: str) -> Contents:
    """What they send."""
    return Contents(ENCODER, DIMENSION, [picture(kind) for kind in KINDS * 4], forgotten)


@dataclass(frozen=True)
class Fault:
    """One process of the service is ended.

    Attributes:
        name: of the process.
        kills: with SIGKILL; else it is told to end.
    """

    name: str
    kills: bool = True

    def __call__(self, stack: Stack) -> float:
        """End it, and wait until there is another; returns the moment at which it was gone."""
        process = stack.child(self.name)
        process.kill() if self.kills else process.terminate()
        psutil.wait_procs([process], ENDS_SECONDS)
        moment = time.time()
        stack.child(self.name)
        return moment


@dataclass
class Moments:
    """What was done while producers sent, in seconds of the clock.

    Attributes:
        forgotten: a subject that was removed.
        removed: when that was asked for.
        kills: when Redis was killed.
    """

    forgotten: str
    removed: float = 0.0
    kills: list[float] = field(default_factory=list)

    def why_no_end(self, producer: Producer, name: str, said: Said) -> str:
        """Why nothing is said of what became of an entry: it was lost as promised, or its removal took the result."""
        by_celery = isinstance(producer, PlainCelery)  # then it is not known when it became an entry
        moment = 0.0 if by_celery else int(name.partition("-")[0]) / 1000
        if said.ends == "forgotten" and moment <= self.removed:
            return "forgotten with its result"
        assert any(by_celery or kill - LOSS_SECONDS <= moment <= kill for kill in self.kills), (producer.name, name)
        return "lost by Celery" if by_celery else "lost"


def break_things(
    intake: Intake, faults: Sequence[Fault], sent: Callable[[], int], entries: int, found: Moments
) -> None:
    """End processes, one after the other and spread over what is sent."""
    due, each = sent(), entries // len(faults)
    for fault in faults:
        due += each
        while sent() < due:
            time.sleep(0.1)
        moment = fault(intake.stack)
        if fault.name == REDIS and fault.kills:
            found.kills.append(moment)


def settle(intake: Intake) -> dict[str, list[tuple[str, str]]]:
    """Wait until no entry is open, and return how each has ended."""
    before, since = (0, 0, 0), time.monotonic()
    while True:
        with suppress(Unavailable):
            if not any(found := intake.open()):
                return intake.ended()
            if found != before:
                before, since = found, time.monotonic()
        assert time.monotonic() - since < QUIET_SECONDS, f"{before} are open for ever"
        time.sleep(1)


def check(intake: Intake, made: Sequence[Producer], found: Moments) -> Counter[str]:
    """Every entry has ended once and as it should; what became of how many.

    Args:
        intake: the service.
        made: producers, with what they sent.
        found: what was done meanwhile, and when.
    """
    ended = settle(intake)
    assert {entry: ends for entry, ends in ended.items() if len(ends) != 1} == {}
    of_event = defaultdict[str, set[str]](set)
    for [(status, event_id)] in ended.values():
        of_event[event_id].add(status)
    counts = Counter(status for [(status, _)] in ended.values())
    for producer in made:
        by_event = isinstance(producer, PlainCelery)
        for name, said in producer.sent.items():
            ends = of_event.get(name, set()) if by_event else {status for status, _ in ended.get(name, ())}
            assert ends <= ENDS_OF[said.ends], (producer.name, name, said.id, ends)
            if not ends:
                counts[found.why_no_end(producer, name, said)] += 1
    dead = [letter.entry for letter in intake.streams.dead(TENANT)]
    assert sorted(dead) == sorted(entry for entry, [(status, _)] in ended.items() if status in {"rejected", "dead"})
    _check_memory(intake, made, of_event, found.forgotten)
    return counts


def _check_memory(intake: Intake, made: Sequence[Producer], of_event: Mapping[str, set[str]], forgotten: str) -> None:
    """The memory holds what the results say, and nothing else; of each image the latest."""
    images = {
        image.image_id: image
        for image in intake.stack.client.iterate(intake.stack.client.images)
        if image.source is None
    }
    assert [image.image_id for image in images.values() if image.subject == forgotten] == []
    assert {image.state for image in images.values()} == {State.REMEMBERED}
    for producer in made:
        ended = [said for said in producer.sent.values() if said.ends == "remembered" and of_event.get(said.id)]
        held = {name for name in images if name.startswith(f"{producer.name}-")}
        assert held == {said.image_id for said in ended}, producer.name
        latest = [said for said in ended if said.image_id == producer.latest]
        if not isinstance(producer, PlainCelery):  # what waits behind others there comes later
            assert images[producer.latest].labels == latest[-1].data["labels"], producer.name
