"""Watch a folder, and send its pictures to the stream of a tenant."""

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
from visual_memory.services.cli.shared_options import AsJson, print_json

if TYPE_CHECKING:
    from redis import Redis

    from visual_memory.services.settings import Settings
    from visual_memory.services.watched_folder.file_to_event import FileEvent, PictureReferences
    from visual_memory.services.watched_folder.sent_files import SentFiles

TICK_MS = 500
"""How long changes are collected, and how often unfinished files are checked."""
POLL_MS = 2_000
"""How often a folder on a network disk is scanned for changes."""


def watch(
    folder: Annotated[Path, typer.Argument(help="FOLDER holding LABEL/*.jpg.", exists=True, file_okay=False)],
    tenant: Annotated[str, typer.Option(help="The tenant that receives the pictures.")] = "default",
    source: Annotated[str | None, typer.Option(help="The source of all its pictures.")] = None,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="VISUAL_MEMORY_WATCH_URL",
            help="The intake's Redis, redis://USER:PASSWORD@HOST:PORT; default: that of this machine's service.",
        ),
    ] = None,
    prefix: Annotated[str | None, typer.Option(help="Prefix of the stream's name; default: from the settings.")] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="URL at which the service reads FOLDER, for pictures over 256 KiB: file:///srv/pictures"),
    ] = None,
    settle: Annotated[float, typer.Option(min=0, help="Seconds that a file must be unchanged before it is sent.")] = 2,
    polling: Annotated[
        bool | None,
        typer.Option("--polling/--no-polling", help="Scan for changes periodically; default: on network disks."),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="File that records what was sent; default: in the data folder.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Send files again that were sent before.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Send the existing files, and exit.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send the pictures of a folder to the intake, and new ones as they arrive; deleted files are not removed."""
    from watchfiles import watch as changes_of

    from visual_memory.schemas.api_key import check_tenant
    from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys
    from visual_memory.services.watched_folder.network_disk import is_remote
    from visual_memory.services.watched_folder.new_files import WatchedFolder
    from visual_memory.services.watched_folder.stream_sender import StreamSender
    from visual_memory.services.watched_folder.watch_and_send import FolderSender

    top, stopped, report = folder.absolute(), threading.Event(), WatchReport(as_json)
    with exit_on_error(), ExitStack() as stack:
        settings = local_settings() if url is None else read_settings()
        stream = StreamKeys(prefix or settings.intake.prefix).intake(check_tenant(tenant))
        sent = stack.enter_context(_sent_files(state, settings, f"{top} {_address(url)} {stream}"))
        if again:
            sent.clear()
        server = stack.enter_context(_server(url, settings))
        folder_sender = FolderSender(
            folder=top,
            source=source,
            files=WatchedFolder(top, sent, settle),
            sent=sent,
            references=_references(top, tenant, reference, None if url else settings),
            sender=StreamSender(server, stream, report.print_message, stopped),
            report=report,
            stopped=stopped,
        )
        stack.enter_context(_stop_on_signals(stopped.set))
        polls = is_remote(top) if polling is None else polling
        found = changes_of(
            top,
            watch_filter=None,
            debounce=TICK_MS,
            stop_event=stopped,
            rust_timeout=TICK_MS,
            yield_on_timeout=True,
            force_polling=polls,
            poll_delay_ms=POLL_MS,
            ignore_permission_denied=True,
        )
        report.print_message(f"watching {top} for {stream}{', with periodic scans' if polls else ''}")
        folder_sender.run(({Path(path) for _, path in changes} for changes in found), once=once)
    if report.skipped:
        raise typer.Exit(PARTIAL)


class WatchReport:
    """Prints a line for each file; errors on standard error.

    Args:
        as_json: print JSON.

    Attributes:
        sent: how many files were sent.
        skipped: how many could not be sent.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self.sent = 0
        self.skipped = 0

    def file_sent(self, path: Path, event: "FileEvent", entry: str) -> None:
        """Print that a file was sent."""
        self.sent += 1
        if self._as_json:
            print_json({"path": str(path), "label": event.label, "entry": entry, "id": event.id})
        else:
            typer.echo(f"sent {path} ({event.label}) as entry {entry}")

    def file_skipped(self, path: Path, reason: str) -> None:
        """Print that a file cannot be sent, and why."""
        self.skipped += 1
        if self._as_json:
            print_json({"path": str(path), "left_out": reason})
        else:
            typer.echo(f"skipped {path}: {reason}", err=True)

    def print_message(self, message: str) -> None:
        """Print a message on standard error."""
        typer.echo(message, err=True)


@contextmanager
def _server(url: str | None, settings: "Settings") -> "Iterator[Redis]":
    """Connect to the intake's Redis: at the URL, or that of this machine's service."""
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
    """Return host, port and path of a URL, without the password, which may change."""
    parts = urlsplit(url or "")
    return f"{parts.hostname or ''}:{parts.port or ''}{parts.path}"


@contextmanager
def _sent_files(state: Path | None, settings: "Settings", watched: str) -> "Iterator[SentFiles]":
    """Open the record of sent files: the given file, or one per folder and stream in the data folder."""
    from visual_memory.services.infrastructure.storage.owner_only_files import private_folder
    from visual_memory.services.watched_folder.sent_files import open_sent_files

    if state is None:
        private_folder(settings.data / "watch")
        state = settings.data / "watch" / f"{sha256(watched.encode(errors='surrogateescape')).hexdigest()[:16]}.sqlite"
    with open_sent_files(state) as sent:
        yield sent


def _references(top: Path, tenant: str, reference: str | None, own: "Settings | None") -> "PictureReferences":
    """Return the URLs of large pictures; `own`: the settings of the service, if it runs on this machine."""
    from visual_memory.schemas.errors import InvalidRequest
    from visual_memory.services.intake.picture_urls.allowed_prefixes import AllowedPrefixes
    from visual_memory.services.watched_folder.file_to_event import PictureReferences

    if own is None:
        advice = "name with --reference the URL at which the service reads this folder"
        return PictureReferences(reference, lambda _url: True, advice)
    base = reference or top.as_uri()
    allowed = AllowedPrefixes(own.intake.references)

    def allows(url: str) -> bool:
        try:
            allowed.find(tenant, url)
        except InvalidRequest:
            return False
        return True

    return PictureReferences(
        base, allows, f"let VISUAL_MEMORY_INTAKE__REFERENCES allow {base}/ for {tenant}, or use the API"
    )


@contextmanager
def _stop_on_signals(end: Callable[[], object]) -> Iterator[None]:
    """Let SIGINT and SIGTERM stop between two files, not within one."""

    def caught(_number: int, _frame: FrameType | None) -> None:
        end()

    before = {number: signal.signal(number, caught) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
