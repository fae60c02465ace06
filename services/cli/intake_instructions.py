"""How producers reach the intake, in words that can be copied."""

import shlex
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import typer

from visual_memory.services.bootstrap.wiring.wire_task_queue import key_prefix
from visual_memory.services.infrastructure.processes.private_redis import broker_url
from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys
from visual_memory.services.infrastructure.storage.data_paths import Places
from visual_memory.services.settings import Settings

TASK, QUEUE = "visual_memory.remember_image", "intake"
NAME, PASSWORD = "NAME", "PASSWORD"
EVENT = (
    '{"specversion":"1.0","type":"visual-memory.image.v1","source":"/camera/1","id":"1",'
    '"data":{"labels":["cat"],"picture":"BASE64"}}'
)


@dataclass(frozen=True)
class IntakeAccess:
    """Where the intake is and how to send, without any password.

    Attributes:
        url: of its Redis.
        local: whether only processes of this machine's user reach it.
        streams: their names, by what they are for.
        redis_cli: a command that sends an image.
        celery: how a producer with Celery sends one.
    """

    url: str
    local: bool
    streams: dict[str, str]
    redis_cli: str
    celery: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def intake_access(settings: Settings, keys: StreamKeys, tenant: str) -> IntakeAccess:
    """How a tenant's producers reach the intake of these settings."""
    intake, socket = settings.intake, str(Places(settings.data).intake_socket)
    local = intake.url is None and intake.port is None
    if local:
        url, reach = f"unix://{NAME}:{PASSWORD}@{socket}", f"-s {shlex.quote(socket)} --user {NAME} --pass {PASSWORD}"
    else:
        url = _without_password(intake.url or f"redis://{intake.host}:{intake.port}")
        reach = f"-u {shlex.quote(url)}"
    stream = keys.intake(tenant)
    return IntakeAccess(
        url=url,
        local=local,
        streams={"images": stream, "removals": keys.removals(tenant), "results": keys.results(tenant)},
        redis_cli=f"redis-cli {reach} XADD {stream} '*' event {shlex.quote(EVENT)}",
        celery={
            "broker": _without_password(broker_url(settings)),
            "task": TASK,
            "queue": QUEUE,
            "serializer": "json",
            "broker_transport_options": {"global_keyprefix": key_prefix(settings), "priority_steps": [0]},
            "kwargs": {"tenant": tenant, "labels": ["cat"], "picture": "BASE64"},
        },
    )


def say(access: IntakeAccess, tenant: str) -> None:
    """Print it for people."""
    typer.echo(f"Redis      {access.url}")
    if access.local:
        typer.echo("           only this user's processes reach it: VISUAL_MEMORY_INTAKE__PORT opens a port")
    for what, name in access.streams.items():
        typer.echo(f"{what:<10} {name}")
    typer.echo(f"users      visual-memory intake user add NAME --tenant {tenant} [--removals | --results]")
    typer.echo(f"to send    {access.redis_cli}")
    sends = access.celery
    typer.echo(f"Celery     broker={sends['broker']!r}")
    typer.echo(f"           broker_transport_options={sends['broker_transport_options']}")
    typer.echo(f"           send_task({sends['task']!r}, kwargs={sends['kwargs']}, queue={sends['queue']!r})")


def _without_password(url: str) -> str:
    """A URL for somebody else: with a name and a password of their own."""
    parts = urlsplit(url)
    if not parts.hostname:
        return url
    host = f"{NAME}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=host))
