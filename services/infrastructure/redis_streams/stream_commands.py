"""The streams of the intake: all calls of its Redis, except those for its users.

An entry is ended by one script, which is one transaction: it deletes the entry from the stream and the group, and
writes its result, its dead letter or the note that it is accepted.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from redis import Redis
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from visual_memory.schemas.errors import OutOfSpace, Unavailable
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.redis_streams.entry_fields import (
    FIELD,
    accepted_note,
    dead_letter_fields,
    flat,
    to_accepted_entry,
    to_entry,
)
from visual_memory.services.infrastructure.redis_streams.rewrite_log import rewrite_log
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import (
    AcceptedEntry,
    Backlog,
    DeadLetter,
    Ended,
    Entry,
    Result,
)
from visual_memory.services.infrastructure.redis_streams.stream_keys import GROUP, NOTHING, Inbox, StreamKeys, order
from visual_memory.services.infrastructure.redis_streams.stream_scripts import (
    COUNT_ATTEMPT,
    CREATE_GROUP,
    END_ENTRIES,
    REPLAY_DEAD_LETTER,
    RESOLVE_ACCEPTED,
)

PAGE = 100
"""Entries on a page; 100 of the largest are 34 MB."""


class Streams:
    """The streams of all tenants.

    Args:
        redis: a client of the intake's Redis that does not decode answers.
        keys: the names of its keys.
        max_results: about how many results of a tenant are stored.
    """

    def __init__(self, redis: "Redis", keys: StreamKeys, max_results: int = 10_000) -> None:
        self._redis: Any = redis  # its types speak of asynchronous clients too
        self.keys = keys
        self._max_results = max_results
        self._end, self._settle, self._begin, self._group, self._replay = (
            redis.register_script(script)
            for script in (END_ENTRIES, RESOLVE_ACCEPTED, COUNT_ATTEMPT, CREATE_GROUP, REPLAY_DEAD_LETTER)
        )

    def ping(self) -> None:
        """Return if the server answers.

        Raises:
            Unavailable: it does not answer; raised by every other method too.
        """
        with translated_errors():
            self._redis.ping()

    def tenants(self) -> set[str]:
        """The tenants that have a stream which producers send to."""
        found = set[str]()
        with translated_errors():
            for inbox in Inbox:
                for key in self._redis.scan_iter(self.keys.inbox(inbox, "*"), count=1000, _type="stream"):
                    if tenant := self.keys.tenant_of(key.decode(errors="replace")):
                        found.add(tenant)
        return found

    def last_id(self, tenant: str, inbox: Inbox = Inbox.INTAKE) -> str:
        """The greatest id of an entry that a stream has or had; `NOTHING` if it never had one."""
        with translated_errors():
            try:
                return str(self._redis.xinfo_stream(self.keys.inbox(inbox, tenant))["last-generated-id"].decode())
            except ResponseError as error:
                if "no such key" in str(error):
                    return NOTHING
                raise

    def add(self, tenant: str, event: bytes, original: str = "", inbox: Inbox = Inbox.INTAKE) -> str:
        """Add an entry to a stream, as a producer does; returns its id.

        Raises:
            OutOfSpace: the server is full.
        """
        fields = {FIELD: event, **({b"original": original} if original else {})}
        with translated_errors():
            return str(self._redis.xadd(self.keys.inbox(inbox, tenant), fields).decode())

    def claim(self, tenant: str, consumer: str, inbox: Inbox = Inbox.INTAKE) -> list[Entry]:
        """Claim all pending entries of a stream, of any consumer, in order."""
        key = self.keys.inbox(inbox, tenant)
        start, found = "0-0", dict[str, Mapping[bytes, bytes]]()
        with translated_errors():
            while True:
                following, entries, *_ = self._in_group(
                    key, partial(self._redis.xautoclaim, key, GROUP, consumer, 0, start, count=PAGE)
                )
                # Redis 6.2 returns deleted entries without fields
                found |= {entry_id.decode(): fields for entry_id, fields in entries if entry_id and fields}
                start = following.decode()
                if start == "0-0":
                    break
            deliveries = self._deliveries(key, consumer)
            if gone := deliveries.keys() - found.keys():
                self._redis.xack(key, GROUP, *gone)
        return [to_entry(entry_id, fields, deliveries.get(entry_id, 1)) for entry_id, fields in found.items()]

    def read(self, tenant: str, consumer: str, count: int, inbox: Inbox = Inbox.INTAKE) -> list[Entry]:
        """Read the next entries that were not delivered to any consumer yet."""
        key = self.keys.inbox(inbox, tenant)
        with translated_errors():
            found = self._in_group(key, partial(self._redis.xreadgroup, GROUP, consumer, {key: ">"}, count=count))
        return [to_entry(entry_id.decode(), fields) for _, entries in found for entry_id, fields in entries if fields]

    def pending(self, tenant: str, inbox: Inbox = Inbox.INTAKE) -> dict[str, int]:
        """The number of pending entries of each consumer."""
        key = self.keys.inbox(inbox, tenant)
        with translated_errors():
            consumers = self._in_group(key, partial(self._redis.xpending, key, GROUP))["consumers"]
        return {each["name"].decode(): int(each["pending"]) for each in consumers}

    def remove_consumer(self, tenant: str, consumer: str, inbox: Inbox = Inbox.INTAKE) -> None:
        """Delete a consumer from the group, unless it has pending entries, which the next owner must claim."""
        key = self.keys.inbox(inbox, tenant)
        if not self.pending(tenant, inbox).get(consumer):
            with translated_errors():
                self._redis.xgroup_delconsumer(key, GROUP, consumer)

    def tenants_with_entries(self, tenants: Iterable[str], inbox: Inbox = Inbox.INTAKE) -> set[str]:
        """Those of some tenants whose stream has entries, unread or pending."""
        names = [*tenants]
        with translated_errors():
            pipe = self._redis.pipeline(transaction=False)
            for tenant in names:
                pipe.xlen(self.keys.inbox(inbox, tenant))
            return {tenant for tenant, length in zip(names, pipe.execute(), strict=True) if length}

    def entries_up_to(self, tenant: str, position: str, inbox: Inbox = Inbox.INTAKE) -> Iterator[list[Entry]]:
        """All entries at or before a position, read or not, a page at a time.

        Replayed entries have later ids than their position, so all entries that exist at the call are checked.
        """
        for page in self._pages(self.keys.inbox(inbox, tenant), self.last_id(tenant, inbox)):
            entries = (to_entry(entry_id, fields) for entry_id, fields in page)
            if older := [entry for entry in entries if order(entry.position) <= order(position)]:
                yield older

    def count_attempt(self, tenant: str, entry_id: str, inbox: Inbox = Inbox.INTAKE) -> int:
        """Count that an entry is processed on its own; returns how often it was, including this time.

        The count is deleted when the entry ends, or by `reset_attempts`: what remains is how often its reader crashed.
        """
        with translated_errors():
            keys = [self.keys.inbox(inbox, tenant), self.keys.attempts(tenant)]
            return int(self._begin(keys=keys, args=[f"{inbox}:{entry_id}"]))

    def reset_attempts(self, tenant: str, entry_id: str, inbox: Inbox = Inbox.INTAKE) -> None:
        """Delete the count of `count_attempt`: the entry is left for later, and its reader did not crash."""
        with translated_errors():
            self._redis.hdel(self.keys.attempts(tenant), f"{inbox}:{entry_id}")

    def end(self, tenant: str, ended: Sequence[Ended], inbox: Inbox = Inbox.INTAKE) -> int:
        """Delete entries from their stream and write their results and dead letters, in one transaction.

        Returns:
            how many were deleted; nothing is written again for one that was deleted before.
        """
        keys = self.keys
        names = [keys.inbox(inbox, tenant), keys.results(tenant), keys.dead(tenant), keys.accepted(tenant)]
        arguments: list[str | bytes | int] = [GROUP, self._max_results, str(inbox)]
        for each in ended:
            arguments += [
                each.entry.id,
                flat(each.result.fields()),
                accepted_note(each),
                *dead_letter_fields(each, inbox),
            ]
        if not ended:
            return 0
        with translated_errors():
            return int(self._end(keys=[*names, keys.attempts(tenant)], args=arguments))

    def publish(self, tenant: str, results: Iterable[Result]) -> None:
        """Add results to their stream without ending an entry."""
        with translated_errors():
            pipe = self._redis.pipeline(transaction=False)
            for result in results:
                pipe.xadd(self.keys.results(tenant), result.fields(), maxlen=self._max_results, approximate=True)
            pipe.execute()

    def resolve_accepted(self, tenant: str, results: Sequence[Result]) -> int:
        """Publish the final results of accepted entries, each once even if several processes do; returns how many."""
        if not results:
            return 0
        arguments = [text for result in results for text in (result.entry, flat(result.fields()))]
        with translated_errors():
            keys = [self.keys.results(tenant), self.keys.accepted(tenant)]
            return int(self._settle(keys=keys, args=[self._max_results, *arguments]))

    def tenants_with_accepted(self, tenants: Iterable[str]) -> set[str]:
        """Those of some tenants that have accepted entries without a final result."""
        names = [*tenants]
        with translated_errors():
            pipe = self._redis.pipeline(transaction=False)
            for tenant in names:
                pipe.hlen(self.keys.accepted(tenant))
            return {tenant for tenant, number in zip(names, pipe.execute(), strict=True) if number}

    def accepted_ids(self, tenant: str) -> list[str]:
        """The ids of all accepted entries without a final result, in order."""
        with translated_errors():
            return sorted((key.decode() for key in self._redis.hkeys(self.keys.accepted(tenant))), key=order)

    def accepted(self, tenant: str, entry_ids: Sequence[str] | None = None) -> Iterator[list[AcceptedEntry]]:
        """Accepted entries without a final result, a page at a time: all, or those of some ids."""
        wanted = self.accepted_ids(tenant) if entry_ids is None else [*entry_ids]
        for start in range(0, len(wanted), PAGE):
            some = wanted[start : start + PAGE]
            with translated_errors():
                rows = self._redis.hmget(self.keys.accepted(tenant), some)
            yield [to_accepted_entry(entry_id, row) for entry_id, row in zip(some, rows, strict=True) if row]

    def dead(self, tenant: str, after: str = NOTHING, count: int | None = None) -> Iterator[DeadLetter]:
        """Dead letters after an id, the oldest first, at most `count`."""
        left = count
        for page in self._pages(self.keys.dead(tenant), "+", after):
            for letter_id, fields in page:
                if left == 0:
                    return
                yield DeadLetter.read(letter_id, fields)
                left = None if left is None else left - 1

    def latest_dead(self, tenant: str, before: str | None = None) -> Iterator[DeadLetter]:
        """Dead letters before an id, the latest first; None: all."""
        end = "+" if before is None else f"({before}"
        while True:
            with translated_errors():
                page = self._redis.xrevrange(self.keys.dead(tenant), end, "-", count=PAGE)
            yield from (DeadLetter.read(letter_id.decode(), fields) for letter_id, fields in page)
            if len(page) < PAGE:
                return
            end = f"({page[-1][0].decode()}"

    def drop_dead(self, tenant: str, letter_ids: Iterable[str]) -> int:
        """Delete dead letters; returns how many existed."""
        ids = [*letter_ids]
        with translated_errors():
            return int(self._redis.xdel(self.keys.dead(tenant), *ids)) if ids else 0

    def replay_dead(self, tenant: str, letter_id: str) -> str | None:
        """Add the original of a dead letter to its stream again, and delete the letter, in one transaction.

        Returns:
            the id of the new entry, which stores its first id (`Entry.original`); None if there is no such letter.

        Raises:
            OutOfSpace: the server is full; the letter is not deleted.
        """
        keys = [self.keys.dead(tenant), *(self.keys.inbox(inbox, tenant) for inbox in (Inbox.INTAKE, Inbox.REMOVALS))]
        with translated_errors():
            entry = self._replay(keys=keys, args=[letter_id, str(Inbox.REMOVALS)])
        return None if entry is None else str(entry.decode())

    def results(self, tenant: str, after: str = NOTHING) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Results with their ids, the oldest first."""
        for page in self._pages(self.keys.results(tenant), "+", after):
            for result_id, fields in page:
                yield result_id, {name.decode(): value.decode() for name, value in fields.items()}

    def drop_results(self, tenant: str, result_ids: Iterable[str]) -> int:
        """Delete results; returns how many existed."""
        ids = [*result_ids]
        with translated_errors():
            return int(self._redis.xdel(self.keys.results(tenant), *ids)) if ids else 0

    def drop_tenant(self, tenant: str) -> None:
        """Delete everything of a tenant."""
        with translated_errors():
            self._redis.delete(*self.keys.all_of(tenant))

    def backlog(self, tenant: str) -> Backlog:
        """Measure what a tenant's streams contain."""
        key = self.keys.intake(tenant)
        with translated_errors():
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
        """Have the server erase deleted entries from its append-only file; see `rewrite_log`."""
        with translated_errors():
            return rewrite_log(self._redis, sleep)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _pages(self, key: str, end: str, after: str = NOTHING) -> Iterator[list[tuple[str, Mapping[bytes, bytes]]]]:
        start = f"({after}"
        while True:
            with translated_errors():
                page = self._redis.xrange(key, start, end, count=PAGE)
            if page:
                yield [(entry_id.decode(), fields) for entry_id, fields in page]
            if len(page) < PAGE:
                return
            start = f"({page[-1][0].decode()}"

    def _deliveries(self, key: str, consumer: str) -> dict[str, int]:
        """How often each pending entry of a consumer was delivered."""
        found: dict[str, int] = {}
        start = "-"
        while True:
            page = self._redis.xpending_range(key, GROUP, start, "+", PAGE, consumer)
            found |= {each["message_id"].decode(): int(each["times_delivered"]) for each in page}
            if len(page) < PAGE:
                return found
            start = f"({page[-1]['message_id'].decode()}"

    def _in_group(self, key: str, ask: Callable[[], Any]) -> Any:
        """Call a command of a stream's group, which is created if missing."""
        try:
            return ask()
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
        try:
            self._group(keys=[key], args=[GROUP])
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # another reader has created it
                raise
        return ask()


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate errors of Redis, without their messages, which may quote what was sent.

    Raises:
        Unavailable: it does not answer, or refuses.
        OutOfSpace: it is full.
    """
    try:
        yield
    except OutOfMemoryError as error:
        raise OutOfSpace("the intake's Redis is full: entries are refused until some are processed") from error
    except (RedisError, OSError) as error:
        raise Unavailable(f"the intake's Redis does not answer as it should: {kind(error)}") from error
