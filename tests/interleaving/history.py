"""What happened in a schedule: calls with their answers, and every change of a point, each with the step it came at."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from schemas.errors import VisualMemoryError
from services.memory.embedded.edge import EdgeEngine
from tests.interleaving.scheduler import Scheduler, running_actor
from tests.interleaving.service import Service, content

ACCEPTED = "accepted"
Payload = dict[str, Any]


@dataclass
class Call:
    """A request of a client.

    Attributes:
        answer: `ACCEPTED`, or the code of an error; empty where the client never heard one.
    """

    kind: str
    said: dict[str, Any]
    begun: int
    actor: str
    ended: int = 10**9
    answer: str = ""
    result: Any = None

    @property
    def may_count(self) -> bool:
        """Whether it had, or may have had, an effect."""
        return self.answer in (ACCEPTED, "")


@dataclass(frozen=True)
class Change:
    """A point as it was and as it is; None where it was not or is not there."""

    step: int
    actor: str
    before: Payload | None
    after: Payload | None


@dataclass
class History:
    """Of one schedule."""

    service: Service
    scheduler: Scheduler
    calls: list[Call] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    held: dict[str, Payload] = field(default_factory=dict)
    is_erased: bool = False

    @contextmanager
    def call(self, kind: str, **said: Any) -> Iterator[Call]:
        """A call, whose answer is noted; errors that are answers end here."""
        call = Call(kind, said, self.scheduler.step, running_actor())
        self.calls.append(call)
        try:
            yield call
        except VisualMemoryError as error:
            call.answer = error.code
        else:
            call.answer = ACCEPTED
        call.ended = self.scheduler.step

    def written(self, _engine: EdgeEngine) -> None:
        """Note what a write changed."""
        before, self.held = self.held, self.service.payloads()
        for image_id in sorted(before.keys() | self.held.keys()):
            if before.get(image_id) != self.held.get(image_id):
                changed = Change(self.scheduler.step, running_actor(), before.get(image_id), self.held.get(image_id))
                self.changes.append(changed)

    def versions(self) -> dict[str, list[Change]]:
        """The changes of each image from when it was put to when it was gone, by the keys of their pictures."""
        found: dict[str, list[Change]] = {}
        for change in self.changes:
            for picture in {each["picture"] for each in (change.before, change.after) if each}:
                after = change.after if change.after and change.after["picture"] == picture else None
                found.setdefault(picture, []).append(replace(change, after=after))
        return found

    def of(self, kind: str) -> list[Call]:
        """The calls of a kind."""
        return [call for call in self.calls if call.kind == kind]


def hash_of(number: int) -> str:
    """The hash of a content."""
    return sha256(content(number)).hexdigest()


Work = Callable[[], None]


@dataclass(frozen=True)
class Clients:
    """What actors do; each makes one call after the other."""

    history: History

    @property
    def service(self) -> Service:
        """Whom they ask."""
        return self.history.service

    def send(self, number: int, image_id: str, **fields: Any) -> None:
        """Send a picture."""
        with self.history.call("send", content=number, image_id=image_id, **fields) as call:
            [call.result] = self.service.send(number, image_id=image_id, **fields)

    def amend(self, image_id: str, **fields: Any) -> None:
        """Change an image."""
        with self.history.call("amend", image_id=image_id, **fields) as call:
            call.result = self.service.amend(image_id, **fields)

    def remove(self, block: bool = False, **condition: Any) -> None:
        """Ask for a removal and carry it out, as an API does."""
        with self.history.call("remove", filter=condition, block=block) as call:
            call.result = self.service.request(filter=condition, block=block)
        if call.result is not None:
            self.service.resume(call.result.id)

    def keep_decision(self, number: int, **options: Any) -> None:
        """Ask, and let the answer be kept."""
        with self.history.call("ask", content=number, **options) as call:
            call.result = self.service.ask(number, store=True, **options)
