"""Reads pictures that events name by URL, side by side, each within its bytes and its time."""

import errno
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import fsspec

from visual_memory.schemas.errors import FetchFailed, FetchUnanswered, InvalidRequest, TooLarge, VisualMemoryError
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.processes.fair_queue import FairQueue
from visual_memory.services.intake.picture_urls.allowed_prefixes import FILE, HTTPS, AllowedPrefix, AllowedPrefixes
from visual_memory.services.intake.picture_urls.fetch_url import FetchUrls
from visual_memory.services.intake.picture_urls.local_files import read_beneath

SECONDS = 30.0
READS = 16
READS_OF_ONE = 8
"""Pictures of one tenant that are read at once: a store that hangs may do so for longer than anybody waits for it."""
LINKS = (errno.ELOOP, errno.ENOTDIR)

Read = Callable[[], bytes]
Outcome = bytes | VisualMemoryError


class ReadPictureUrls:
    """The use case.

    Args:
        allowed: the URLs that each tenant may name.
        fetch: gets what is named by https: from public addresses alone, without redirects.
        max_bytes: of the largest picture.
        seconds: how long a call may take.

    Raises:
        InvalidRequest: a library for a store is missing.
    """

    def __init__(self, allowed: AllowedPrefixes, fetch: FetchUrls, max_bytes: int, seconds: float = SECONDS) -> None:
        for scheme in allowed.schemes() - {FILE, HTTPS}:
            _check_library(scheme)
        self._allowed = allowed
        self._fetch = fetch
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._turns = FairQueue([None] * READS, READS_OF_ONE)

    def __call__(self, tenant: str, urls: Sequence[str]) -> list[Outcome]:
        """What is behind each URL: its bytes, or why there are none.

        That is `InvalidRequest` where the tenant may not name it, `FetchFailed` where it is not to be had, `TooLarge`,
        or `FetchUnanswered` where another try may be answered.
        """
        deadline = time.monotonic() + self._seconds
        begun = [self._begin(tenant, url) for url in urls]
        return [self._outcome(each, deadline) for each in begun]

    def _begin(self, tenant: str, url: str) -> "tuple[Future[None], Future[bytes]]":
        found: Future[bytes] = Future()
        turn: Future[None] = Future()
        try:
            read = self._reader(tenant, url)
        except VisualMemoryError as error:
            found.set_exception(error)
            return turn, found
        turn = self._turns.request(tenant)

        def run() -> None:
            try:
                found.set_result(self._limited(read))
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                found.set_exception(error)
            finally:
                self._turns.release(tenant, turn)

        def start(_: object) -> None:
            if not turn.cancelled():
                threading.Thread(target=run, name="reference", daemon=True).start()

        turn.add_done_callback(start)
        return turn, found

    def _outcome(self, begun: "tuple[Future[None], Future[bytes]]", deadline: float) -> Outcome:
        turn, found = begun
        try:
            return found.result(max(0.0, deadline - time.monotonic()))
        except VisualMemoryError as error:
            return error
        except TimeoutError:
            turn.cancel()  # one that has begun goes on by itself, and has its turn until it ends
            return FetchUnanswered(f"dataref: what it names was not there within {self._seconds:g} s")

    def _reader(self, tenant: str, url: str) -> Read:
        prefix, rest = self._allowed.find(tenant, url)
        if prefix.scheme == HTTPS:
            return lambda: self._fetch(tenant, [url])[0]
        if prefix.scheme == FILE:
            return partial(read_beneath, Path(prefix.url.removeprefix("file://")), rest, self._max_bytes + 1)
        return partial(self._from_store, prefix, rest)

    def _from_store(self, prefix: AllowedPrefix, rest: str) -> bytes:
        """Of the URL the store's own part is the operator's, so that no options or users come with a producer's."""
        files, root = fsspec.url_to_fs(prefix.url, use_listings_cache=False)
        path = f"{str(root).rstrip('/')}/{rest}"
        return bytes(files.cat_file(path, start=0, end=self._max_bytes + 1))

    def _limited(self, read: Read) -> bytes:
        with _translated():
            data = read()
        if len(data) > self._max_bytes:
            raise TooLarge(f"dataref: what it names has more than {self._max_bytes:,} bytes, the most that is taken")
        return data


def _check_library(scheme: str) -> None:
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise InvalidRequest(f"intake.references names {scheme}:// URLs, and this machine cannot: {error}") from None


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what files and stores raise into the errors of pictures that cannot be had."""
    try:
        yield
    except VisualMemoryError as error:
        raise type(error)(f"dataref: {error.message}") from error
    except TimeoutError:
        raise
    except FileNotFoundError:
        raise FetchFailed("dataref: nothing lies there") from None
    except PermissionError:
        raise FetchFailed("dataref: this service may not read what lies there") from None
    except Exception as error:  # object stores raise their own classes
        if isinstance(error, IsADirectoryError):
            raise FetchFailed("dataref: what lies there is no file") from None
        if isinstance(error, OSError) and error.errno in LINKS:
            raise FetchFailed("dataref: a link lies there or on the way, and none is followed") from None
        raise FetchUnanswered(f"dataref: the store does not answer: {kind(error)}") from error
