"""What happened in a schedule: calls with their answers, and every change of a point, each with the step it came at."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

import numpy as np

from tests.concurrency.scheduler import Scheduler, running_actor
from tests.concurrency.service import Service, content
from tests.support.intake_events import image_data, image_event
from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.redis_streams.stream_keys import NOTHING
from visual_memory.services.vector_engines.engine_contract import Vectors

ACCEPTED = "accepted"
LENGTHS = (1, 2)
NOTED = """
SELECT 'noted', removal, picture FROM covered_images
UNION ALL SELECT 'refused', removal, entry FROM refused_entries
UNION ALL SELECT step, id, intake_position FROM removals
"""
ENDED = {"mirror", "done"}
"""As text, for it is asked after each transaction."""
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
    begun_at: datetime
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
    at: datetime


@dataclass
class History:
    """Of one schedule.

    Attributes:
        held: the points that are there, by image id.
        noted: the pictures' keys of what each removal has ever noted, by its id, with the step at which it did.
        refused: the entries of the intake that each has ever taken, with the step at which it did.
        recorded: the step at which each was recorded, and its position in the intake.
        results: what was said of each entry, in its order.
        last_result: the id of the last of them.
        done: the step at which each was done.
        is_erased: whether everything was compacted at the end.
    """

    service: Service
    scheduler: Scheduler
    calls: list[Call] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    held: dict[str, Payload] = field(default_factory=dict)
    noted: dict[str, dict[str, int]] = field(default_factory=dict)
    results: dict[str, list[str]] = field(default_factory=dict)
    last_result: str = NOTHING
    refused: dict[str, dict[str, int]] = field(default_factory=dict)
    recorded: dict[str, tuple[int, str]] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    is_erased: bool = False

    @contextmanager
    def call(self, kind: str, **said: Any) -> Iterator[Call]:
        """A call, whose answer is noted; errors that are answers end here."""
        call = Call(kind, said, self.scheduler.step, running_actor(), now())
        self.calls.append(call)
        try:
            yield call
        except VisualMemoryError as error:
            call.answer = error.code
        else:
            call.answer = ACCEPTED
        call.ended = self.scheduler.step

    def written(self) -> None:
        """Note what a write changed."""
        before, self.held = self.held, self.service.payloads()
        for image_id in sorted(before.keys() | self.held.keys()):
            if before.get(image_id) != self.held.get(image_id):
                was, is_now = before.get(image_id), self.held.get(image_id)
                changed = Change(self.scheduler.step, running_actor(), was, is_now, now())
                self.changes.append(changed)

    def committed(self) -> None:
        """Note what removals have noted, and which are done."""
        with self.service.place.database.read() as connection:
            for kind, removal_id, what in connection.exec_driver_sql(NOTED):
                if kind == "noted":
                    self.noted.setdefault(removal_id, {}).setdefault(what, self.scheduler.step)
                elif kind == "refused":
                    self.refused.setdefault(removal_id, {}).setdefault(what, self.scheduler.step)
                else:
                    self.recorded.setdefault(removal_id, (self.scheduler.step, what))
                    if kind in ENDED:
                        self.done.setdefault(removal_id, self.scheduler.step)

    def said(self) -> None:
        """Note what was said of entries since."""
        for result, said in self.service.streams.results(self.service.tenant, self.last_result):
            self.results.setdefault(said["entry"], []).append(said["status"])
            self.last_result = result

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


def hash_of_vector(vector: Vectors) -> str:
    """The hash of a content that is a vector."""
    return sha256(vector.astype("<f4").tobytes()).hexdigest()


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
        with self.history.call("send", hash=hash_of(number), image_id=image_id, **fields) as call:
            [call.result] = self.service.send(number, image_id=image_id, **fields)

    def send_vector(self, number: int, image_id: str, length: float = 1.0, **fields: Any) -> None:
        """Send the vector of a picture, of some length."""
        vector = self.service.vector(number) * np.float32(length)
        with self.history.call("send", hash=hash_of_vector(vector), image_id=image_id, **fields) as call:
            [call.result] = self.service.send_vector(vector, image_id=image_id, **fields)

    def queue(self, number: int, image_id: str, **fields: Any) -> None:
        """Put an event with a picture on the stream."""
        data = image_data(content(number), image_id=image_id, **fields)
        with self.history.call("queue", hash=hash_of(number), image_id=image_id, **fields) as call:
            call.result = self.service.queue(image_event(id=f"event {number}", data=data))

    def queue_vector(self, number: int, image_id: str, **fields: Any) -> None:
        """Put an event with a vector on the stream."""
        vector = self.service.vector(number)
        data = image_data(None, image_id=image_id, **fields) | {
            "vector": vector[0].tolist(),
            "encoder": self.service.place.encoder.name,
        }
        with self.history.call("queue", hash=hash_of_vector(vector), image_id=image_id, **fields) as call:
            call.result = self.service.queue(image_event(id=f"vector {number}", data=data))

    def queue_text(self, text: str) -> None:
        """Put what is no event on the stream."""
        with self.history.call("queue", text=text) as call:
            call.result = self.service.queue(text.encode())

    def probe(self, number: int) -> None:
        """Send a picture, and vectors of its direction, as somebody whom nobody removed."""
        said = {"image_id": f"probe-{number}", "subject": "nobody", "labels": ["other"]}
        with self.history.call("probe", hashes={hash_of(number)}, **said):
            self.service.send(number, **said)
        said["image_id"] = f"probe-vector-{number}"
        with self.history.call("probe", hashes=self.hashes_of_vectors(number), **said):
            self.service.send_vector(self.service.vector(number) * np.float32(3), **said)

    def hashes_of_vectors(self, number: int) -> set[str]:
        """Of the vectors of a picture in the lengths in which they are sent."""
        vector = self.service.vector(number)
        return {hash_of_vector(vector * np.float32(length)) for length in LENGTHS}

    def amend(self, image_id: str, **fields: Any) -> None:
        """Change an image."""
        with self.history.call("amend", image_id=image_id, **fields) as call:
            call.result = self.service.amend(image_id, **fields)

    def remove(self, block: bool = False, key: str = "", **condition: Any) -> None:
        """Ask for a removal and carry it out, as an API does; without a condition, of everything.

        Args:
            block: refuse the same from then on.
            key: an idempotency key, where there is one.
            condition: the filter.
        """
        with self.history.call("remove", filter=condition, block=block, key=key) as call:
            asked = {"filter": condition, "everything": not condition, "block": block}
            call.result = self.service.request_once(key, **asked) if key else self.service.request(**asked)
        if call.result is not None:
            self.service.resume(call.result.id)

    def keep_decision(self, number: int, **options: Any) -> None:
        """Ask with a picture, and let the answer be kept."""
        with self.history.call("ask", number=number, **options) as call:
            call.result = self.service.ask(number, store=True, **options)
