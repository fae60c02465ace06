"""Watch a folder: whatever picture comes into it is put on the tenant's stream, as by any producer."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from visual_memory.services.cli.exit_codes import PARTIAL, exit_on_error
from visual_memory.services.cli.local_data import local_settings, read_settings
from visual_memory.services.cli.shared_options import AsJson

if TYPE_CHECKING:
    from redis import Redis

    from visual_memory.services.settings import Settings
    from visual_memory.services.watched_folder.file_to_event import References
    from visual_memory.services.watched_folder.sent_files import SentFiles

TICK_MS = 500
"""How long changes are gathered, and how often files are looked at that are being written."""
POLL_MS = 2_000
"""How often a folder of another machine is compared with how it was."""


def watch(
    folder: Annotated[Path, typer.Argument(help="FOLDER holding LABEL/*.jpg.", exists=True, file_okay=False)],
    tenant: Annotated[str, typer.Option(help="Whose memory it feeds.")] = "default",
    source: Annotated[str | None, typer.Option(help="The source of all its pictures.")] = None,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="VISUAL_MEMORY_WATCH_URL",
            help="The intake's Redis, redis://USER:PASSWORD@HOST:PORT; without: that of this machine's service.",
        ),
    ] = None,
    prefix: Annotated[str | None, typer.Option(help="What the stream's name begins with; without: as set.")] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="URL at which the service reads FOLDER, for pictures over 256 KiB: file:///srv/pictures"),
    ] = None,
    settle: Annotated[float, typer.Option(min=0, help="Seconds that a file must stay the same before it is sent.")] = 2,
    polling: Annotated[
        bool | None, typer.Option("--polling/--no-polling", help="Compare it again and again; without: if remote.")
    ] = None,
    state: Annotated[Path | None, typer.Option(help="File of what was sent; without: in the data folder.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Send once more what was sent before.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Send what is there, and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send the pictures of a folder to the intake, and those that come into it; what leaves it is not removed."""
    from watchfiles import watch as changes_of

    from visual_memory.schemas.api_key import check_tenant
    from visual_memory.services.cli.watch_report import WatchReport
    from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys
    from visual_memory.services.watched_folder.network_disk import is_remote
    from visual_memory.services.watched_folder.new_files import WatchedFolder
    from visual_memory.services.watched_folder.send_changes import Watching
    from visual_memory.services.watched_folder.stream_sender import StreamSender

    top, stopped, report = folder.absolute(), threading.Event(), WatchReport(as_json)
    with exit_on_error(), ExitStack() as opened:
        settings = local_settings() if url is None else read_settings()
        stream = StreamKeys(prefix or settings.intake.prefix).intake(check_tenant(tenant))
        sent = opened.enter_context(_sent_files(state, settings, f"{top} {_address(url)} {stream}"))
        if again:
            sent.forget_all()
        server = opened.enter_context(_server(url, settings))
        watching = Watching(
            folder=top,
            source=source,
            files=WatchedFolder(top, sent, settle),
            sent=sent,
            references=_references(top, tenant, reference, None if url else settings),
            sender=StreamSender(server, stream, report.tell, stopped),
            report=report,
            stopped=stopped,
        )
        opened.enter_context(_ended_by_signals(stopped.set))
        compares = is_remote(top) if polling is None else polling
        found = changes_of(
            top,
            watch_filter=None,
            debounce=TICK_MS,
            stop_event=stopped,
            rust_timeout=TICK_MS,
            yield_on_timeout=True,
            force_polling=compares,
            poll_delay_ms=POLL_MS,
            ignore_permission_denied=True,
        )
        report.tell(f"watching {top} for {stream}{' by comparing it again and again' if compares else ''}")
        watching.run(({Path(path) for _, path in changes} for changes in found), once=once)
    if report.left_out:
        raise typer.Exit(PARTIAL)


@contextmanager
def _server(url: str | None, settings: "Settings") -> "Iterator[Redis]":
    """The intake's Redis: the one at a URL, else that of this machine's service."""
    from redis import Redis

    from visual_memory.schemas.errors import InvalidRequest
    from visual_memory.services.bootstrap.wiring.wire_intake import TIMEOUT, intake_redis

    try:
        server = intake_redis(settings) if url is None else Redis.from_url(url, socket_timeout=TIMEOUT)
    except ValueError as error:
        raise InvalidRequest(f"--url: {error}") from None
    with server:
        yield server


def _address(url: str | None) -> str:
    """Return host, port and path of the intake's Redis, without the password, which may change."""
    parts = urlsplit(url or "")
    return f"{parts.hostname or ''}:{parts.port or ''}{parts.path}"


@contextmanager
def _sent_files(state: Path | None, settings: "Settings", watched: str) -> "Iterator[SentFiles]":
    """What was sent, as a file keeps it: the one that is named, else one for each folder and stream."""
    from visual_memory.services.infrastructure.storage.private_files import private_folder
    from visual_memory.services.watched_folder.sent_files import open_sent_files

    if state is None:
        private_folder(settings.data / "watch")
        state = settings.data / "watch" / f"{sha256(watched.encode(errors='surrogateescape')).hexdigest()[:16]}.sqlite"
    with open_sent_files(state) as sent:
        yield sent


def _references(top: Path, tenant: str, reference: str | None, own: "Settings | None") -> "References":
    """Where the service reads pictures too large for an event; `own`: its settings, if it runs on this machine."""
    from visual_memory.schemas.errors import InvalidRequest
    from visual_memory.services.intake.picture_urls.allowed_prefixes import AllowedPrefixes
    from visual_memory.services.watched_folder.file_to_event import References

    if own is None:
        advice = "name with --reference the URL at which the service reads this folder"
        return References(reference, lambda _url: True, advice)
    base = reference or top.as_uri()
    allowed = AllowedPrefixes(own.intake.references)

    def allows(asked: str) -> bool:
        try:
            allowed.find(tenant, asked)
        except InvalidRequest:
            return False
        return True

    return References(base, allows, f"let VISUAL_MEMORY_INTAKE__REFERENCES allow {base}/ for {tenant}, or use the API")


@contextmanager
def _ended_by_signals(end: Callable[[], object]) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the work between two files, and not within one."""

    def caught(_number: int, _frame: FrameType | None) -> None:
        end()

    before = {number: signal.signal(number, caught) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
