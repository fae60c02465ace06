"""The rows of the table: promises that once did not hold, each with the actors that broke it."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

from tests.concurrency.history import LENGTHS, hash_of
from tests.concurrency.schedule import Schedule
from tests.concurrency.scheduler import Fault
from visual_memory.schemas.labels import LabelCheck
from visual_memory.schemas.moments import now

JOSE = tuple(unicodedata.normalize(form, "José") for form in ("NFC", "NFD"))
CONTENTS = (*range(15), *range(50, 53))
QUEUED = range(20, 43)


@dataclass(frozen=True)
class Row:
    """A kind of schedule.

    Attributes:
        promise: its number in the design.
        what: in a few words, for the table.
        act: adds actors; what it draws comes from the generator.
        faults: what may happen to an actor.
        after: what clients ask once everything has come to its end.
        erase: whether everything is compacted at the end.
        page: how many notes of a removal are written at once.
    """

    promise: int
    what: str
    act: Callable[[Schedule, Random], None]
    faults: tuple[Fault, ...] = ()
    after: Callable[[Schedule], None] = lambda _schedule: None
    erase: bool = False
    page: int = 1000


def _taught(schedule: Schedule, number: int, subject: str = "ann", label: str = "cat", first: int = 0) -> None:
    for each in range(number):
        schedule.clients.send(first + each, f"{subject}-{each}", subject=subject, labels=[label], source="a")
    schedule.service.work()
    schedule.service.work()


def _probe(schedule: Schedule) -> None:
    """Send everything again, as somebody whom nobody removed."""
    sent = {call.said["hash"] for call in schedule.history.of("send")}
    for number in CONTENTS:
        if sent & {hash_of(number), *schedule.clients.hashes_of_vectors(number)}:
            schedule.clients.probe(number)


def _probe_refused(schedule: Schedule) -> None:
    """Send the pictures again that removals took from the intake, as somebody whom nobody removed."""
    taken = {entry for entries in schedule.history.refused.values() for entry in entries}
    hashes = {call.said.get("hash") for call in schedule.history.of("queue") if call.result in taken}
    for number in QUEUED:
        if hash_of(number) in hashes:
            schedule.clients.probe(number)


def _overlapping(schedule: Schedule, chance: Random) -> None:
    _taught(schedule, 4)
    clients = schedule.clients
    schedule.add("by subject", partial(clients.remove, block=True, key="one", subject="ann"))
    schedule.add("by label", partial(clients.remove, labels="cat"))
    if chance.random() < 0.5:
        key = chance.choice(("", "one"))
        schedule.add("sent again", partial(clients.remove, block=True, key=key, subject="ann"))
    if chance.random() < 0.5:
        schedule.add("by id", partial(clients.remove, image_id=["ann-0", "ann-1"]))
    schedule.add("sweeper", schedule.service.sweep, schedule.service.sweep)


def _standing_still(schedule: Schedule, chance: Random) -> None:
    _taught(schedule, 6)
    schedule.add("removal", partial(schedule.clients.remove, block=chance.random() < 0.5, subject="ann"))
    schedule.add("sweeper", schedule.service.sweep, schedule.service.sweep)
    schedule.add("another sweeper", schedule.service.sweep)


def _sent_again(schedule: Schedule, chance: Random) -> None:
    _taught(schedule, 3)
    clients = schedule.clients
    schedule.add("removal", partial(clients.remove, subject="ann"))
    for each in range(3):
        schedule.add(f"sender {each}", partial(clients.send, each, f"ann-{each}", subject="bob", labels=["cat"]))
    if chance.random() < 0.5:
        schedule.add("worker", schedule.service.work)


def _replaced(schedule: Schedule, chance: Random) -> None:
    _taught(schedule, 3)
    clients = schedule.clients
    schedule.add("removal", partial(clients.remove, block=True, subject="ann"))
    for each in range(3):
        schedule.add(f"sender {each}", partial(clients.send, 10 + each, f"ann-{each}", subject="bob", labels=["cat"]))
    if chance.random() < 0.5:
        schedule.add("worker", schedule.service.work)


def _spelt_otherwise(schedule: Schedule, chance: Random) -> None:
    clients = schedule.clients
    for each in range(4):
        clients.send(each, f"image-{each}", subject=chance.choice(JOSE), labels=["cat"])
    schedule.add("removal", partial(clients.remove, block=True, subject=chance.choice(JOSE)))
    schedule.add("sender", partial(clients.send, 9, "late", subject=chance.choice(JOSE), labels=["cat"]))
    schedule.add("worker", schedule.service.work)


def _without_manifest(schedule: Schedule, chance: Random) -> None:
    _taught(schedule, 3)
    clients = schedule.clients
    schedule.add("folder", *(partial(clients.send, each, f"ann-{each}", labels=["cat"]) for each in range(3)))
    schedule.add("worker", schedule.service.work)
    schedule.add("removal", partial(clients.remove, subject="ann"))


def _killed_while_accepting(schedule: Schedule, chance: Random) -> None:
    clients = schedule.clients
    for each in range(2):
        schedule.add(f"sender {each}", partial(clients.send, each, f"ann-{each}", subject="ann"))
        schedule.add(f"sender {each} again", partial(clients.send, each, f"ann-{each}", subject="ann"))
    if chance.random() < 0.5:
        schedule.add("removal", partial(clients.remove, subject="ann"))
    schedule.add("worker", schedule.service.work)


def _looked_at(schedule: Schedule, chance: Random) -> None:
    _taught(schedule, 2)
    service, clients = schedule.service, schedule.clients
    service.drop_thumbnails()
    for each in range(2):
        schedule.add(f"viewer {each}", partial(service.look, f"ann-{each}"))
    schedule.add("another viewer", partial(service.look, "ann-0"))
    schedule.add("removal", partial(clients.remove, image_id="ann-0"))
    schedule.add("sender", partial(clients.send, 10, f"ann-{chance.randrange(2)}", labels=["dog"]))
    schedule.add("worker", service.work)


def _kept_decisions(schedule: Schedule, chance: Random) -> None:
    _taught(schedule, 2)
    _taught(schedule, 2, subject="bob", label="dog", first=50)
    clients = schedule.clients
    schedule.add("asker", partial(clients.keep_decision, 20, filter={"subject": "ann"}))
    schedule.add("asker again", partial(clients.keep_decision, 0))
    schedule.add("removal", partial(clients.remove, block=chance.random() < 0.5, subject="ann"))


def _patched(schedule: Schedule, chance: Random) -> None:
    _taught(schedule, 2)
    clients = schedule.clients
    for each in range(2):
        schedule.add(f"subject {each}", partial(clients.amend, f"ann-{each}", subject="eve"))
        schedule.add(f"source {each}", partial(clients.amend, f"ann-{each}", source="b"))
    if chance.random() < 0.5:
        schedule.add("labels", partial(clients.amend, "ann-0", labels=["dog"]))
    schedule.add("removal", partial(clients.remove, subject="eve"))


def _judged(schedule: Schedule, chance: Random) -> None:
    _taught(schedule, 3)
    service, clients = schedule.service, schedule.clients
    service.judge()
    schedule.history.written()
    clients.send(10, "ann-0", labels=["dog"])
    schedule.add("sender", partial(clients.send, 11, "ann-1", labels=["dog"]))
    schedule.add("removal", partial(clients.remove, image_id=["ann-0", chance.choice(("ann-1", "ann-2"))]))
    schedule.add("worker", service.work)
    if chance.random() < 0.5:
        schedule.add("judge", service.judge)


def _queued(schedule: Schedule, chance: Random) -> None:
    _taught(schedule, 2)
    service, clients = schedule.service, schedule.clients
    for each in range(chance.randrange(3)):  # they wait before anybody does anything
        clients.queue(20 + each, chance.choice(("ann-0", "new-0")), subject=chance.choice(("ann", "bob")))
    schedule.add(
        "sender",
        partial(clients.queue, 30, "new-0", subject="ann"),
        partial(clients.queue, 31, "new-1", subject="bob"),
        partial(clients.queue, 32, "ann-0", labels=["dog"]),
    )
    given: list[Callable[[], object]] = [
        partial(clients.queue, 40, "new-1", labels=["cat"]),
        partial(clients.queue, 41, "new-1", subject="ann", labels=["cat"]),
        partial(clients.queue, 42, "new-2", subject="eve"),
        partial(clients.queue_vector, 43, "new-3", subject="ann"),
        partial(clients.queue_text, "ann is in no event"),
    ]
    schedule.add("another sender", *chance.sample(given, 3))
    for name in ("reader", "another reader"):
        reader = service.reader(name)
        turn = partial(reader.read_round, service.tenant)
        schedule.add(name, turn, turn, turn)
    schedule.add("removal", partial(clients.remove, block=chance.random() < 0.5, subject="ann"))
    if chance.random() < 0.5:
        other: dict[str, Any] = chance.choice(({"labels": "cat"}, {"image_id": "new-1"}, {}))
        schedule.add("another removal", partial(clients.remove, **other))
    if chance.random() < 0.5:
        schedule.add("worker", service.work, service.settle)


def _everything(schedule: Schedule, chance: Random) -> None:
    """Any actors at once."""
    service, clients = schedule.service, schedule.clients
    service.object(chance.choice(list(LabelCheck)))
    _taught(schedule, 2)
    _taught(schedule, 1, subject="bob", label="dog", first=50)
    ids = ("ann-0", "ann-1", "bob-0", "new")

    def fields() -> dict[str, Any]:
        return {
            "image_id": chance.choice(ids),
            "subject": chance.choice(("ann", "bob", "eve")),
            "labels": [chance.choice(("cat", "dog"))],
        }

    def amended() -> dict[str, Any]:
        field = chance.choice(("subject", "labels", "source"))
        return {field: ["dog"] if field == "labels" else chance.choice(("ann", "eve"))}

    soon = now() + timedelta(seconds=chance.choice((30, 3600)))
    actors: list[tuple[str, Callable[[], object]]] = [
        ("removal by subject", partial(clients.remove, block=chance.random() < 0.5, subject="ann")),
        (
            "removal by label",
            partial(clients.remove, block=chance.random() < 0.3, labels=chance.choice(("cat", "dog"))),
        ),
        ("removal by id", partial(clients.remove, image_id=list(chance.sample(ids, 2)))),
        ("removal of everything", partial(clients.remove, block=chance.random() < 0.3)),
        ("removal of others", partial(clients.remove, subject={"not": "ann"})),
        ("sender", partial(clients.send, chance.randrange(4), **fields())),
        ("sender again", partial(clients.send, 0, "ann-0", subject="ann", labels=["cat"], source="a")),
        ("sender of another subject", partial(clients.send, 1, "ann-1", subject="eve", labels=["cat"])),
        ("sender of a vector", partial(clients.send_vector, 1, length=chance.choice(LENGTHS), **fields())),
        ("sender of what expires", partial(clients.send, 7, "short", subject="eve", expires_at=soon)),
        ("amender", partial(clients.amend, chance.choice(ids), **amended())),
        ("another amender", partial(clients.amend, chance.choice(ids), **amended())),
        ("worker", service.work),
        ("another worker", service.work),
        ("asker", partial(clients.keep_decision, chance.randrange(4), filter={"subject": "ann"})),
        ("another asker", partial(clients.keep_decision, chance.randrange(4))),
        ("judge", service.judge),
        ("sweeper", service.sweep),
        ("retention", service.expire),
        ("eraser", service.erase_if_due),
    ]
    chosen = chance.sample(actors[:5], 2) + chance.sample(actors[5:], 4)
    for name, work in chosen:
        schedule.add(name, work)


ROWS = {
    "overlapping": Row(
        2, "removals that overlap, by subject with block, by label, by id, sent again", _overlapping, after=_probe
    ),
    "standing still": Row(
        2,
        "a removal's process stands still past its lease",
        _standing_still,
        (Fault.STANDS_STILL,),
        after=_probe,
        page=2,
    ),
    "sent again": Row(1, "the same content sent again with another subject while it is removed", _sent_again),
    "replaced": Row(2, "images replaced while they are removed with block", _replaced, after=_probe),
    "spelling": Row(2, "a subject in two spellings, removed with block", _spelt_otherwise),
    "without manifest": Row(2, "a folder sent again without its manifest, and removed by subject", _without_manifest),
    "killed": Row(
        3,
        "an API killed while it accepts, sent again, removed, compacted",
        _killed_while_accepting,
        (Fault.KILLED,),
        erase=True,
    ),
    "looked at": Row(
        3,
        "thumbnails made while their images are removed or replaced, one process killed or standing still, compacted",
        _looked_at,
        (Fault.STANDS_STILL, Fault.KILLED),
        erase=True,
    ),
    "decisions": Row(3, "decisions stored with a filter, a picture or neighbours that are removed", _kept_decisions),
    "patched": Row(1, "fields changed at the same time, and removed by one of them", _patched),
    "judged": Row(3, "images judged, then replaced, then removed", _judged),
    "queued": Row(
        2,
        "entries that wait while a removal comes, of which one process dies or stands still past its lease",
        _queued,
        (Fault.STANDS_STILL, Fault.KILLED),
        after=_probe_refused,
    ),
    "everything": Row(
        2,
        "any six of twenty actors at once, one of them killed or standing still",
        _everything,
        (Fault.STANDS_STILL, Fault.KILLED),
        after=_probe,
        page=2,
    ),
}
"""By a short name."""
