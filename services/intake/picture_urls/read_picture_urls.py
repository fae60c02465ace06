"""Read the pictures that events name by URL: concurrently, within limits of size and time."""

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
"""Concurrent reads of one tenant; a store that hangs occupies its slot for longer than the caller waits."""
LINKS = (errno.ELOOP, errno.ENOTDIR)

Read = Callable[[], bytes]
Outcome = bytes | VisualMemoryError


class ReadPictureUrls:
    """The use case.

    Args:
        allowed: the URLs that each tenant may name.
        fetch: fetches https URLs: only from public addresses, without redirects.
        max_bytes: the size of the largest picture.
        seconds: time limit of a call.

    Raises:
        InvalidRequest: the library of a store is not installed.
    """

    def __init__(self, allowed: AllowedPrefixes, fetch: FetchUrls, max_bytes: int, seconds: float = SECONDS) -> None:
        for scheme in allowed.schemes() - {FILE, HTTPS}:
            _check_library(scheme)
        self._allowed = allowed
        self._fetch = fetch
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._slots = FairQueue([None] * READS, READS_OF_ONE)

    def __call__(self, tenant: str, urls: Sequence[str]) -> list[Outcome]:
        """Read URLs; returns the bytes or the error of each.

        The error is `InvalidRequest` if the tenant may not name the URL, `FetchFailed` if it cannot be read,
        `TooLarge`, or `FetchUnanswered` if another try may succeed.
        """
        deadline = time.monotonic() + self._seconds
        begun = [self._begin(tenant, url) for url in urls]
        return [self._outcome(each, deadline) for each in begun]

    def _begin(self, tenant: str, url: str) -> "tuple[Future[None], Future[bytes]]":
        found: Future[bytes] = Future()
        slot: Future[None] = Future()
        try:
            read = self._reader(tenant, url)
        except VisualMemoryError as error:
            found.set_exception(error)
            return slot, found
        slot = self._slots.request(tenant)

        def run() -> None:
            try:
                found.set_result(self._limited(read))
            except BaseException as error:  # noqa: BLE001 - raised to the caller
                found.set_exception(error)
            finally:
                self._slots.release(tenant, slot)

        def start(_: object) -> None:
            if not slot.cancelled():
                threading.Thread(target=run, name="reference", daemon=True).start()

        slot.add_done_callback(start)
        return slot, found

    def _outcome(self, begun: "tuple[Future[None], Future[bytes]]", deadline: float) -> Outcome:
        slot, found = begun
        try:
            return found.result(max(0.0, deadline - time.monotonic()))
        except VisualMemoryError as error:
            return error
        except TimeoutError:
            slot.cancel()  # a read that has begun continues, and holds its slot until it ends
            return FetchUnanswered(f"dataref: the picture was not read within {self._seconds:g} s")

    def _reader(self, tenant: str, url: str) -> Read:
        prefix, rest = self._allowed.find(tenant, url)
        if prefix.scheme == HTTPS:
            return lambda: self._fetch(tenant, [url])[0]
        if prefix.scheme == FILE:
            return partial(read_beneath, Path(prefix.url.removeprefix("file://")), rest, self._max_bytes + 1)
        return partial(self._from_store, prefix, rest)

    def _from_store(self, prefix: AllowedPrefix, rest: str) -> bytes:
        """Open the store by the operator's URL, so that a producer's URL cannot set options or users."""
        files, root = fsspec.url_to_fs(prefix.url, use_listings_cache=False)
        path = f"{str(root).rstrip('/')}/{rest}"
        return bytes(files.cat_file(path, start=0, end=self._max_bytes + 1))

    def _limited(self, read: Read) -> bytes:
        with _translated():
            data = read()
        if len(data) > self._max_bytes:
            raise TooLarge(f"dataref: the picture has more than {self._max_bytes:,} bytes, the largest accepted size")
        return data


def _check_library(scheme: str) -> None:
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise InvalidRequest(f"intake.references names {scheme}:// URLs, and this machine cannot: {error}") from None


@contextmanager
def _translated() -> Iterator[None]:
    """Translate errors of files and stores."""
    try:
        yield
    except VisualMemoryError as error:
        raise type(error)(f"dataref: {error.message}") from error
    except TimeoutError:
        raise
    except FileNotFoundError:
        raise FetchFailed("dataref: it does not exist") from None
    except PermissionError:
        raise FetchFailed("dataref: this service may not read it") from None
    except Exception as error:  # object stores raise their own classes
        if isinstance(error, IsADirectoryError):
            raise FetchFailed("dataref: it is no file") from None
        if isinstance(error, OSError) and error.errno in LINKS:
            raise FetchFailed("dataref: it is a link or below one, and links are not followed") from None
        raise FetchUnanswered(f"dataref: the store does not answer: {kind(error)}") from error
