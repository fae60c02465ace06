"""The streams of the intake: every call of its Redis, but for the users of Redis.

What ends an entry is one script, so one transaction: the entry leaves the stream and the group, and its result, its
dead letter or the note that it is accepted is there, or nothing of that is. It deletes first: a script that has begun
to write goes on where the server is full, so that a full intake empties.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError, OutOfMemoryError, RedisError, ResponseError

from visual_memory.schemas.errors import OutOfSpace, Unavailable
from visual_memory.schemas.intake_event import MAX_EVENT
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.redis_streams.stream_entries import (
    KEPT,
    AcceptedEntry,
    Backlog,
    DeadLetter,
    Ended,
    Entry,
    Result,
    Status,
)
from visual_memory.services.infrastructure.redis_streams.stream_keys import GROUP, NOTHING, Inbox, StreamKeys, order

FIELD = b"event"
PAGE = 100
"""Entries that are held at once where many are gone through: 100 of the largest are 34 MB."""
LONGEST_REASON = 500
POLL = 0.05
LONGEST_REWRITE = 300.0
"""Seconds that a server may take to write its log anew."""
OPERATORS = (
    "Entries left the intake's Redis; its files are its operator's, for this service may not have them written anew."
)
DUMPS = (
    "Entries left the intake's Redis; it writes its log anew as a dump (aof-use-rdb-preamble), which holds what lay"
    " between others that are there still, and is its operator's."
)

_END = """
local ended = 0
for n = 4, #ARGV, 5 do
    local id, result, accepted, dead = ARGV[n], cjson.decode(ARGV[n + 1]), ARGV[n + 2], ARGV[n + 3]
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.call('HDEL', KEYS[5], ARGV[3] .. ':' .. id)
    if redis.call('XDEL', KEYS[1], id) == 1 then
        ended = ended + 1
        if accepted ~= '' then redis.call('HSET', KEYS[4], id, accepted) end
        if dead ~= '' then
            redis.call('XADD', KEYS[3], '*', 'event', ARGV[n + 4], unpack(cjson.decode(dead)))
        end
        redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', unpack(result))
    end
end
return ended
"""
_SETTLE = """
local settled = 0
for n = 2, #ARGV, 2 do
    if redis.call('HDEL', KEYS[2], ARGV[n]) == 1 then
        settled = settled + 1
        redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(cjson.decode(ARGV[n + 1])))
    end
end
return settled
"""
_BEGIN = """
redis.call('XDEL', KEYS[1], '0-0')
return redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
"""
_GROUP = """
redis.call('XDEL', KEYS[1], '0-0')
return redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
"""
_REPLAY = """
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then return false end
local letter = {event = '', original = '', inbox = ''}
for n = 1, #found[1][2], 2 do letter[found[1][2][n]] = found[1][2][n + 1] end
local key = letter.inbox == ARGV[2] and KEYS[3] or KEYS[2]
local entry = redis.pcall('XADD', key, '*', 'event', letter.event, 'original', letter.original)
if type(entry) == 'table' then
    if string.find(entry.err, 'OOM', 1, true) then return redis.error_reply('OOM the server is full') end
    return entry
end
redis.call('XDEL', KEYS[1], ARGV[1])
return entry
"""


class Streams:
    """The streams of all tenants.

    Args:
        redis: of the intake; what it answers is not decoded.
        keys: the names of its keys.
        most_results: so many results of a tenant are kept, about.
    """

    def __init__(self, redis: "Redis", keys: StreamKeys, most_results: int = 10_000) -> None:
        self._redis: Any = redis  # its types speak of asynchronous clients too
        self.keys = keys
        self._most = most_results
        self._end, self._settle, self._begin, self._group, self._replay = (
            redis.register_script(script) for script in (_END, _SETTLE, _BEGIN, _GROUP, _REPLAY)
        )

    def ping(self) -> None:
        """Return where the server answers.

        Raises:
            Unavailable: it does not; as every other method.
        """
        with _answered():
            self._redis.ping()

    def tenants(self) -> set[str]:
        """Who has a stream that producers send to."""
        found = set[str]()
        with _answered():
            for inbox in Inbox:
                for key in self._redis.scan_iter(self.keys.inbox(inbox, "*"), count=1000, _type="stream"):
                    if tenant := self.keys.tenant_of(key.decode(errors="replace")):
                        found.add(tenant)
        return found

    def last_id(self, tenant: str, inbox: Inbox = Inbox.INTAKE) -> str:
        """The greatest id that an entry of a stream has, or had before it left; `NOTHING` where there was none."""
        with _answered():
            try:
                return str(self._redis.xinfo_stream(self.keys.inbox(inbox, tenant))["last-generated-id"].decode())
            except ResponseError as error:
                if "no such key" in str(error):
                    return NOTHING
                raise

    def add(self, tenant: str, event: bytes, original: str = "", inbox: Inbox = Inbox.INTAKE) -> str:
        """Put an entry on a stream, as any producer does; returns its id.

        Raises:
            OutOfSpace: the server is full.
        """
        fields = {FIELD: event, **({b"original": original} if original else {})}
        with _answered():
            return str(self._redis.xadd(self.keys.inbox(inbox, tenant), fields).decode())

    def claim(self, tenant: str, consumer: str, inbox: Inbox = Inbox.INTAKE) -> list[Entry]:
        """Take over all entries that were handed out and have not left, whosever they were; in their order."""
        key = self.keys.inbox(inbox, tenant)
        start, found = "0-0", dict[str, Mapping[bytes, bytes]]()
        with _answered():
            while True:
                following, entries, *_ = self._in_group(
                    key, partial(self._redis.xautoclaim, key, GROUP, consumer, 0, start, count=PAGE)
                )
                # Redis 6.2 names what was deleted since with nothing in it
                found |= {entry_id.decode(): fields for entry_id, fields in entries if entry_id and fields}
                start = following.decode()
                if start == "0-0":
                    break
            deliveries = self._deliveries(key, consumer)
            if gone := deliveries.keys() - found.keys():
                self._redis.xack(key, GROUP, *gone)
        return [_entry(entry_id, fields, deliveries.get(entry_id, 1)) for entry_id, fields in found.items()]

    def read(self, tenant: str, consumer: str, count: int, inbox: Inbox = Inbox.INTAKE) -> list[Entry]:
        """Be handed the next entries, which nobody was handed before; none where there are none."""
        key = self.keys.inbox(inbox, tenant)
        with _answered():
            found = self._in_group(key, partial(self._redis.xreadgroup, GROUP, consumer, {key: ">"}, count=count))
        return [_entry(entry_id.decode(), fields) for _, entries in found for entry_id, fields in entries if fields]

    def pending(self, tenant: str, inbox: Inbox = Inbox.INTAKE) -> dict[str, int]:
        """How many entries each consumer was handed that have not left."""
        key = self.keys.inbox(inbox, tenant)
        with _answered():
            consumers = self._in_group(key, partial(self._redis.xpending, key, GROUP))["consumers"]
        return {each["name"].decode(): int(each["pending"]) for each in consumers}

    def remove_consumer(self, tenant: str, consumer: str, inbox: Inbox = Inbox.INTAKE) -> None:
        """Let a consumer leave the group that has nothing any more; where it has, the next owner must claim it."""
        key = self.keys.inbox(inbox, tenant)
        if not self.pending(tenant, inbox).get(consumer):
            with _answered():
                self._redis.xgroup_delconsumer(key, GROUP, consumer)

    def tenants_with_entries(self, tenants: Iterable[str], inbox: Inbox = Inbox.INTAKE) -> set[str]:
        """Those of some tenants that have entries which no reader has taken, or which have not left."""
        asked = [*tenants]
        with _answered():
            pipe = self._redis.pipeline(transaction=False)
            for tenant in asked:
                pipe.xlen(self.keys.inbox(inbox, tenant))
            return {tenant for tenant, length in zip(asked, pipe.execute(), strict=True) if length}

    def entries_up_to(self, tenant: str, position: str, inbox: Inbox = Inbox.INTAKE) -> Iterator[list[Entry]]:
        """All entries that stand at or before a position, whether they were handed out or not, a page at a time.

        Those that were replayed lie behind it; so all are looked at that are there at the call.
        """
        for page in self._pages(self.keys.inbox(inbox, tenant), self.last_id(tenant, inbox)):
            entries = (_entry(entry_id, fields) for entry_id, fields in page)
            if older := [entry for entry in entries if order(entry.position) <= order(position)]:
                yield older

    def count_attempt(self, tenant: str, entry_id: str, inbox: Inbox = Inbox.INTAKE) -> int:
        """Count that an entry is processed on its own; returns how often it was, including this time.

        The count is deleted when the entry ends, or by `reset_attempts`: what remains is how often its reader crashed.
        """
        with _answered():
            keys = [self.keys.inbox(inbox, tenant), self.keys.attempts(tenant)]
            return int(self._begin(keys=keys, args=[f"{inbox}:{entry_id}"]))

    def reset_attempts(self, tenant: str, entry_id: str, inbox: Inbox = Inbox.INTAKE) -> None:
        """Note that an entry which was begun is left for later."""
        with _answered():
            self._redis.hdel(self.keys.attempts(tenant), f"{inbox}:{entry_id}")

    def end(self, tenant: str, ended: Sequence[Ended], inbox: Inbox = Inbox.INTAKE) -> int:
        """Let entries leave their stream, with all that is said and kept of them, in one transaction.

        Returns:
            how many left; of one that had left before nothing is said again.
        """
        keys = self.keys
        names = [keys.inbox(inbox, tenant), keys.results(tenant), keys.dead(tenant), keys.accepted(tenant)]
        given: list[str | bytes | int] = [GROUP, self._most, str(inbox)]
        for each in ended:
            given += [each.entry.id, _flat(each.result.fields()), _accepted(each), *_dead(each, inbox)]
        if not ended:
            return 0
        with _answered():
            return int(self._end(keys=[*names, keys.attempts(tenant)], args=given))

    def publish(self, tenant: str, results: Iterable[Result]) -> None:
        """Put results on their stream that end nothing."""
        with _answered():
            pipe = self._redis.pipeline(transaction=False)
            for result in results:
                pipe.xadd(self.keys.results(tenant), result.fields(), maxlen=self._most, approximate=True)
            pipe.execute()

    def resolve_accepted(self, tenant: str, results: Sequence[Result]) -> int:
        """Say what became of accepted entries; of each once, whoever else does so too. Returns how many were left."""
        if not results:
            return 0
        given = [text for result in results for text in (result.entry, _flat(result.fields()))]
        with _answered():
            keys = [self.keys.results(tenant), self.keys.accepted(tenant)]
            return int(self._settle(keys=keys, args=[self._most, *given]))

    def tenants_with_accepted(self, tenants: Iterable[str]) -> set[str]:
        """Those of some tenants that have entries which were accepted and are not settled."""
        asked = [*tenants]
        with _answered():
            pipe = self._redis.pipeline(transaction=False)
            for tenant in asked:
                pipe.hlen(self.keys.accepted(tenant))
            return {tenant for tenant, number in zip(asked, pipe.execute(), strict=True) if number}

    def accepted_ids(self, tenant: str) -> list[str]:
        """The ids of all entries that were accepted and are not settled, in their order."""
        with _answered():
            return sorted((key.decode() for key in self._redis.hkeys(self.keys.accepted(tenant))), key=order)

    def accepted(self, tenant: str, entry_ids: Sequence[str] | None = None) -> Iterator[list[AcceptedEntry]]:
        """Entries that were accepted and are not settled, a page at a time; all, or those of some ids."""
        wanted = self.accepted_ids(tenant) if entry_ids is None else [*entry_ids]
        for start in range(0, len(wanted), PAGE):
            some = wanted[start : start + PAGE]
            with _answered():
                rows = self._redis.hmget(self.keys.accepted(tenant), some)
            yield [_accepted_entry(entry_id, row) for entry_id, row in zip(some, rows, strict=True) if row]

    def dead(self, tenant: str, after: str = NOTHING, count: int | None = None) -> Iterator[DeadLetter]:
        """Dead letters, the oldest first: those after an id, so many at most."""
        left = count
        for page in self._pages(self.keys.dead(tenant), "+", after):
            for letter_id, fields in page:
                if left == 0:
                    return
                yield DeadLetter.read(letter_id, fields)
                left = None if left is None else left - 1

    def drop_dead(self, tenant: str, letter_ids: Iterable[str]) -> int:
        """Delete dead letters; returns how many were there."""
        ids = [*letter_ids]
        with _answered():
            return int(self._redis.xdel(self.keys.dead(tenant), *ids)) if ids else 0

    def replay_dead(self, tenant: str, letter_id: str) -> str | None:
        """Put the original of a dead letter on its stream again, and delete the letter, in one transaction.

        Returns:
            the id of the new entry, which says how old it is (`Entry.original`); None where there is no such letter.

        Raises:
            OutOfSpace: the server is full; the letter stays.
        """
        keys = [self.keys.dead(tenant), *(self.keys.inbox(inbox, tenant) for inbox in (Inbox.INTAKE, Inbox.REMOVALS))]
        with _answered():
            entry = self._replay(keys=keys, args=[letter_id, str(Inbox.REMOVALS)])
        return None if entry is None else str(entry.decode())

    def results(self, tenant: str, after: str = NOTHING) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Results with their ids, the oldest first."""
        for page in self._pages(self.keys.results(tenant), "+", after):
            for result_id, fields in page:
                yield result_id, {name.decode(): value.decode() for name, value in fields.items()}

    def drop_results(self, tenant: str, result_ids: Iterable[str]) -> int:
        """Delete results; returns how many were there."""
        ids = [*result_ids]
        with _answered():
            return int(self._redis.xdel(self.keys.results(tenant), *ids)) if ids else 0

    def drop_tenant(self, tenant: str) -> None:
        """Delete all that is a tenant's."""
        with _answered():
            self._redis.delete(*self.keys.all_of(tenant))

    def backlog(self, tenant: str) -> Backlog:
        """What lies on a tenant's streams."""
        key = self.keys.intake(tenant)
        with _answered():
            pipe = self._redis.pipeline(transaction=False)
            pipe.xlen(key)
            pipe.memory_usage(key)
            pipe.xlen(self.keys.dead(tenant))
            pipe.xlen(self.keys.removals(tenant))
            pipe.time()
            length, size, dead, removals, (seconds, micros) = pipe.execute()
            first = self._redis.execute_command("XRANGE", key, "-", "+", "COUNT", 1) if length else []
        oldest = seconds + micros / 1e6 - order(first[0][0].decode())[0] / 1e3 if first else 0.0
        return Backlog(length, int(size or 0) if length else 0, max(0.0, oldest), dead, removals)

    def rewrite_log(self, sleep: Callable[[float], object] = time.sleep) -> str:
        """Have the server write its log anew, without what has left the streams.

        Args:
            sleep: waits so many seconds.

        Returns:
            what is left to its operator, where it may not be told to, or writes more than what is there; else empty.

        Raises:
            Unavailable: it could not, or not within `LONGEST_REWRITE`.
        """
        begun, waited = False, 0.0
        with _answered():
            while waited < LONGEST_REWRITE:
                try:
                    state = self._redis.info("persistence")
                    if not state["aof_enabled"]:
                        return OPERATORS
                    if not (state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"]):
                        if begun:
                            break
                        self._redis.bgrewriteaof()  # one that was at work before may have begun before they left
                        begun = True
                except NoPermissionError:
                    return OPERATORS
                sleep(POLL)
                waited += POLL
            if begun and self._redis.info("persistence")["aof_last_bgrewrite_status"] == "ok":
                return "" if self._writes_commands() else DUMPS
        raise Unavailable("the intake's Redis did not write its log anew: its own log says why")

    def _writes_commands(self) -> bool:
        """Whether its log is written anew as commands: a dump has whole nodes of streams, with what left them."""
        try:
            return bool(self._redis.config_get("aof-use-rdb-preamble").get("aof-use-rdb-preamble") == "no")
        except ResponseError:  # it does not say so
            return False

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _pages(self, key: str, end: str, after: str = NOTHING) -> Iterator[list[tuple[str, Mapping[bytes, bytes]]]]:
        start = f"({after}"
        while True:
            with _answered():
                page = self._redis.xrange(key, start, end, count=PAGE)
            if page:
                yield [(entry_id.decode(), fields) for entry_id, fields in page]
            if len(page) < PAGE:
                return
            start = f"({page[-1][0].decode()}"

    def _deliveries(self, key: str, consumer: str) -> dict[str, int]:
        """How often each entry was handed out that is a consumer's."""
        found: dict[str, int] = {}
        start = "-"
        while True:
            page = self._redis.xpending_range(key, GROUP, start, "+", PAGE, consumer)
            found |= {each["message_id"].decode(): int(each["times_delivered"]) for each in page}
            if len(page) < PAGE:
                return found
            start = f"({page[-1]['message_id'].decode()}"

    def _in_group(self, key: str, ask: Callable[[], Any]) -> Any:
        """Ask for something of a stream's group, which is made where there is none."""
        try:
            return ask()
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
        try:
            self._group(keys=[key], args=[GROUP])
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # another reader was faster
                raise
        return ask()


@contextmanager
def _answered() -> Iterator[None]:
    """What Redis cannot do becomes an error that callers know; its words may quote what was sent.

    Raises:
        Unavailable: it does not answer, or refuses.
        OutOfSpace: it is full.
    """
    try:
        yield
    except OutOfMemoryError as error:
        raise OutOfSpace("the intake's Redis is full: entries are refused until some have left") from error
    except (RedisError, OSError) as error:
        raise Unavailable(f"the intake's Redis does not answer as it should: {kind(error)}") from error


def _entry(entry_id: str, fields: Mapping[bytes, bytes], deliveries: int = 1) -> Entry:
    original = fields.get(b"original", b"").decode(errors="replace")
    return Entry(entry_id, fields[FIELD] if FIELD in fields else _no_event(fields), deliveries, original)


def _no_event(fields: Mapping[bytes, bytes]) -> bytes:
    """What was sent without the field ``event``, for those who look at dead letters: a list, so no event.

    It is cut, for fields may hold more together than one may: as a dead letter it would be refused for ever.
    """
    text = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()}
    return json.dumps([text], ensure_ascii=False).encode(errors="replace")[:MAX_EVENT]


def _flat(fields: Mapping[str, str]) -> str:
    """Fields as the scripts take them."""
    return json.dumps([each[:LONGEST_REASON] for field in fields.items() for each in field])


def _accepted(ended: Ended) -> str:
    """The note of an entry that is accepted; empty of another one."""
    if ended.result.status is not Status.ACCEPTED or ended.result.removal:
        return ""
    return json.dumps({"id": ended.result.event_id, "images": ended.images})


def _accepted_entry(entry_id: str, row: bytes) -> AcceptedEntry:
    held = json.loads(row)
    images = ((str(image_id), str(content)) for image_id, content in held["images"])
    return AcceptedEntry(entry_id, held["id"], tuple(images))


def _dead(ended: Ended, inbox: Inbox) -> tuple[str, bytes]:
    """The dead letter of an entry, and its original; empty of one that is not kept."""
    if ended.result.status not in KEPT:
        return "", b""
    entry = ended.entry
    said = ended.result.fields() | {
        "deliveries": str(entry.deliveries),
        "original": entry.original or entry.id,
        "inbox": str(inbox),
    }
    return _flat(said), entry.event
