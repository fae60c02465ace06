"""The group `intake`: show producers how to send without HTTP."""

import shlex
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import typer

from visual_memory.services.cli.commands import intake_dead, intake_user
from visual_memory.services.cli.exit_codes import exit_on_error
from visual_memory.services.cli.local_data import local_settings
from visual_memory.services.cli.shared_options import AsJson, print_json

if TYPE_CHECKING:
    from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys
    from visual_memory.services.settings import Settings

TASK, QUEUE = "visual_memory.remember_image", "intake"
NAME, PASSWORD = "NAME", "PASSWORD"
EVENT = (
    '{"specversion":"1.0","type":"visual-memory.image.v1","source":"/camera/1","id":"1",'
    '"data":{"labels":["cat"],"picture":"BASE64"}}'
)

app = typer.Typer(help="Redis streams for producers that do not use HTTP.", no_args_is_help=True)
app.add_typer(intake_user.app, name="user")
app.add_typer(intake_dead.app, name="dead")


@app.command()
def show(
    tenant: Annotated[str, typer.Option(help="The tenant that receives the images.")] = "default",
    as_json: AsJson = False,
) -> None:
    """Show the address of the intake, the names of its streams, and how to send."""
    from visual_memory.schemas.api_key import check_tenant
    from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys

    with exit_on_error():
        settings = local_settings()
        access = intake_access(settings, StreamKeys(settings.intake.prefix), check_tenant(tenant))
    if as_json:
        print_json(access.as_dict())
    else:
        _print_access(access, tenant)


@dataclass(frozen=True)
class IntakeAccess:
    """How to send to the intake, without any password.

    Attributes:
        url: of its Redis.
        local: whether only processes of this machine's user can connect.
        streams: stream names by purpose.
        redis_cli: a command that sends an image.
        celery: how a producer with Celery sends one.
    """

    url: str
    local: bool
    streams: dict[str, str]
    redis_cli: str
    celery: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def intake_access(settings: "Settings", keys: "StreamKeys", tenant: str) -> IntakeAccess:
    """Describe how producers send images to a tenant."""
    from visual_memory.services.bootstrap.wiring.wire_task_queue import key_prefix
    from visual_memory.services.infrastructure.processes.private_redis import broker_url
    from visual_memory.services.infrastructure.storage.data_paths import DataPaths

    intake, socket = settings.intake, str(DataPaths(settings.data).intake_socket)
    local = intake.url is None and intake.port is None
    if local:
        url = f"unix://{NAME}:{PASSWORD}@{socket}"
        server_options = f"-s {shlex.quote(socket)} --user {NAME} --pass {PASSWORD}"
    else:
        url = _with_placeholders(intake.url or f"redis://{intake.host}:{intake.port}")
        server_options = f"-u {shlex.quote(url)}"
    stream = keys.intake(tenant)
    return IntakeAccess(
        url=url,
        local=local,
        streams={"images": stream, "removals": keys.removals(tenant), "results": keys.results(tenant)},
        redis_cli=f"redis-cli {server_options} XADD {stream} '*' event {shlex.quote(EVENT)}",
        celery={
            "broker": _with_placeholders(broker_url(settings)),
            "task": TASK,
            "queue": QUEUE,
            "serializer": "json",
            "broker_transport_options": {"global_keyprefix": key_prefix(settings), "priority_steps": [0]},
            "kwargs": {"tenant": tenant, "labels": ["cat"], "picture": "BASE64"},
        },
    )


def _with_placeholders(url: str) -> str:
    """Replace the user and password of a URL with placeholders."""
    parts = urlsplit(url)
    if not parts.hostname:
        return url
    host = f"{NAME}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=host))


def _print_access(access: IntakeAccess, tenant: str) -> None:
    typer.echo(f"Redis      {access.url}")
    if access.local:
        typer.echo("           only this user's processes can connect: VISUAL_MEMORY_INTAKE__PORT opens a port")
    for purpose, name in access.streams.items():
        typer.echo(f"{purpose:<10} {name}")
    typer.echo(f"users      visual-memory intake user add NAME --tenant {tenant} [--removals | --results]")
    typer.echo(f"to send    {access.redis_cli}")
    celery = access.celery
    typer.echo(f"Celery     broker={celery['broker']!r}")
    typer.echo(f"           broker_transport_options={celery['broker_transport_options']}")
    typer.echo(f"           send_task({celery['task']!r}, kwargs={celery['kwargs']}, queue={celery['queue']!r})")
