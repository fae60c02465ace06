"""Wire the commands of an operator of the intake; opens neither memory nor encoder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.bootstrap.wiring.wire_intake import intake_redis, wire_streams
from visual_memory.services.bootstrap.wiring.wire_records import audit_of, wire_records
from visual_memory.services.infrastructure.redis_streams.stream_users import StreamUsers
from visual_memory.services.intake.streams.dead_letters import DeadLetters
from visual_memory.services.settings import Settings


@dataclass(frozen=True)
class IntakeCommands:
    """The use cases."""

    users: StreamUsers
    dead: DeadLetters
    audit: AuditLog


@contextmanager
def intake_commands(settings: Settings) -> Iterator[IntakeCommands]:
    """Wire the use cases; they connect with their first call."""
    with ExitStack() as opened:
        redis, streams = intake_redis(settings), wire_streams(settings, opened)
        opened.callback(redis.close)
        database = wire_records(settings, opened)
        yield IntakeCommands(
            users=StreamUsers(redis, streams.keys),
            dead=DeadLetters(streams),
            audit=audit_of(settings, database),
        )
