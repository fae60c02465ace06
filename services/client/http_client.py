"""Clients of the API, for threads and for asyncio.

    from visual_memory import Client, ImageFields

    with Client("http://127.0.0.1:8700", key="vm_...") as memory:
        memory.add([(Path("cat.jpg").read_bytes(), ImageFields(labels=["cat"]))])
        print(memory.classify([Path("what.jpg").read_bytes()]).decisions[0].label)

`AsyncClient` has the same methods as coroutines; `visual_memory.services.client.endpoints` describes them.
"""

import inspect
import ssl
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator
from contextlib import suppress
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from visual_memory.schemas.errors import Unavailable, VisualMemoryError
from visual_memory.schemas.event import Event, EventType
from visual_memory.schemas.image import Image
from visual_memory.schemas.page import Page
from visual_memory.schemas.removal import Removal, RemovalRequest
from visual_memory.services.client import endpoints
from visual_memory.services.client.endpoints import Request
from visual_memory.services.client.error_answers import read_answer
from visual_memory.services.client.event_stream import EVENTS, EventStream
from visual_memory.services.client.retry_policy import RetryPolicy
from visual_memory.services.client.wait_for_receipt import WAIT_SECONDS, ReceiptWait

Verify = bool | str | Path | ssl.SSLContext
LOCAL_URL = "http://127.0.0.1:8700"
PAGE_SIZE = 500
"""Items of a page where a client walks through all pages."""
LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Item = TypeVar("Item")
Method = TypeVar("Method", bound=Callable[..., object])


def _sync(
    endpoint: Callable[Parameters, Request[Result]],
) -> "Callable[Concatenate[Client, Parameters], Result]":
    """The method of `Client` that sends the request of an endpoint."""

    def method(self: "Client", /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self.send(endpoint(*args, **kwargs))

    return _described(method, endpoint)


def _async(
    endpoint: Callable[Parameters, Request[Result]],
) -> "Callable[Concatenate[AsyncClient, Parameters], Coroutine[Any, Any, Result]]":
    """The method of `AsyncClient` that sends the request of an endpoint."""

    async def method(self: "AsyncClient", /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return await self.send(endpoint(*args, **kwargs))

    return _described(method, endpoint)


def _described(method: Method, endpoint: Callable[..., object]) -> Method:
    """Give a method the name, the docstring and the parameters of its endpoint."""
    wraps(endpoint)(method)
    del method.__wrapped__  # type: ignore[attr-defined]  # it has no `self`
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = inspect.signature(endpoint).parameters.values()
    method.__signature__ = inspect.Signature([own, *parameters])  # type: ignore[attr-defined]
    return method


class Client:
    """A client of one Visual Memory.

    A request is sent again, for some seconds, where the connection is refused or the service does not answer (502 to
    504); and after the pause that the answer names, where the key is over its limits (429), a removal holds the image,
    or the same request is being worked on (409 ``being_removed``, ``request_running``). A removal, curation or job has
    an ``Idempotency-Key``, the same for every try, so that it is done once. Nothing is sent again after a lost
    connection. Every method raises the error of `visual_memory.schemas.errors` that the API answered with: its
    `errors` are all faults of the request with their places, its `request_id` is named in the service's log. Where
    there was no answer it is `Unavailable`, and `UnexpectedAnswer` where what answered is no service of this version.

    Proxies and certificates follow the environment as in HTTPX (``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``),
    except that this machine is reached without a proxy.

    Args:
        url: the address of the API.
        key: the API key, ``vm_...``; without one only `readiness` answers.
        timeout: seconds to wait for an answer.
        verify: the certificates that are trusted over TLS: a file or a folder of CA certificates, or an SSL context;
            False: any certificate.
        proxy: the URL of a proxy, instead of the environment's.
    """

    def __init__(
        self,
        url: str = LOCAL_URL,
        key: str | None = None,
        timeout: float = 120.0,
        *,
        verify: Verify = True,
        proxy: str | None = None,
    ) -> None:
        self.url = url
        self.key = key
        transports = None if proxy else dict.fromkeys(LOOPBACK)
        self._http = httpx.Client(**_options(url, key, timeout, verify), proxy=proxy, mounts=transports)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, request: Request[Result]) -> Result:
        """Send a request of `visual_memory.services.client.endpoints`, and read its answer."""
        policy = RetryPolicy(self.url, request.tries)
        while True:
            try:
                answer = self._http.request(request.method, request.path, **request.options)
            except httpx.TransportError as error:
                pause: float | None = policy.pause_after_failure(error)
            else:
                pause = policy.pause_after(answer)
                if pause is None:
                    return read_answer(request.read, answer)
            time.sleep(pause or 0)

    def iterate(
        self, method: Callable[Parameters, Page[Item]], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Iterator[Item]:
        """Every item of a list, requested page by page: ``client.iterate(client.images, where)``.

        Args:
            method: a method of this client that returns a page of the list.
            args: its arguments; `limit` is the size of the pages, and `cursor` where to begin.
            kwargs: its arguments by name.
        """
        options = {"limit": PAGE_SIZE, **kwargs}
        send: Callable[..., Page[Item]] = method
        while True:
            page = send(*args, **options)
            yield from page.data
            if page.next_cursor is None:
                return
            options["cursor"] = page.next_cursor

    def events(self, types: Collection[EventType | str] = (), cursor: str | None = None) -> Iterator[Event]:
        """Listen to what happens in the tenant of the key, for as long as the caller iterates.

        A lost connection is made again after the last event. After an event ``resync`` some may be missing: read again
        what you show. Later versions of the service may send events of further types.

        Args:
            types: the types of events; empty: all. ``resync`` always comes.
            cursor: of the last event that was received; None: from now on.

        Raises:
            VisualMemoryError: the key may not listen, or is revoked meanwhile; nothing answers at first.
        """
        stream = EventStream(types, cursor)
        while True:
            try:
                with self._http.stream("GET", EVENTS, **stream.options(self._http.timeout)) as answer:
                    if answer.is_error:
                        answer.read()
                    stream.check(answer)
                    for line in answer.iter_lines():
                        if (event := stream.event(line)) is not None:
                            yield event
                pause = stream.pause_after_end()
            except (httpx.TransportError, VisualMemoryError) as error:
                pause = stream.pause_after(error)
            time.sleep(pause)

    def remove(self, request: RemovalRequest, *, wait_seconds: float = WAIT_SECONDS) -> Removal:
        """Remove the images that meet a filter, and wait for the receipt.

        Args:
            request: what to remove, and why.
            wait_seconds: how long to wait for the receipt; 0: not at all.

        Returns:
            the removal; without a receipt, and ``running``, if it is not done by then: it continues, and `removal`
            returns its progress and its receipt.
        """
        return self._wait_for_receipt(self.send(endpoints.remove(request)), wait_seconds)

    def remove_image(self, image_id: str, seen: Image | None = None, *, wait_seconds: float = WAIT_SECONDS) -> Removal:
        """Remove one image, and wait for the receipt as `remove` does.

        Args:
            image_id: its id.
            seen: the image as it was read; with it, an image that was changed since is refused (`PreconditionFailed`).
            wait_seconds: how long to wait for the receipt; 0: not at all.
        """
        return self._wait_for_receipt(self.send(endpoints.remove_image(image_id, seen)), wait_seconds)

    def _wait_for_receipt(self, removal: Removal, wait_seconds: float) -> Removal:
        wait = ReceiptWait(wait_seconds)
        while (pause := wait.next_pause(removal)) is not None:
            time.sleep(pause)
            with suppress(Unavailable):  # it continues, whether the service answers this request or not
                removal = self.send(endpoints.removal(removal.id))
        return removal

    add = _sync(endpoints.add)
    add_vectors = _sync(endpoints.add_vectors)
    images = _sync(endpoints.images)
    search = _sync(endpoints.search)
    image = _sync(endpoints.image)
    amend = _sync(endpoints.amend)
    picture = _sync(endpoints.picture)
    thumbnail = _sync(endpoints.thumbnail)
    labels = _sync(endpoints.labels)
    classify = _sync(endpoints.classify)
    classify_vectors = _sync(endpoints.classify_vectors)
    encoders = _sync(endpoints.encoders)
    judge = _sync(endpoints.judge)
    judgement = _sync(endpoints.judgement)
    suspects = _sync(endpoints.suspects)
    review = _sync(endpoints.review)
    mark_reviewed = _sync(endpoints.mark_reviewed)
    unmark_reviewed = _sync(endpoints.unmark_reviewed)
    claim_reviews = _sync(endpoints.claim_reviews)
    release_reviews = _sync(endpoints.release_reviews)
    curate = _sync(endpoints.curate)
    preview_curation = _sync(endpoints.preview_curation)
    bulk = _sync(endpoints.bulk)
    preview_bulk = _sync(endpoints.preview_bulk)
    changes = _sync(endpoints.changes)
    change = _sync(endpoints.change)
    undo = _sync(endpoints.undo)
    decisions = _sync(endpoints.decisions)
    decision = _sync(endpoints.decision)
    delete_decision = _sync(endpoints.delete_decision)
    replay = _sync(endpoints.replay)
    counterfactual = _sync(endpoints.counterfactual)
    jobs = _sync(endpoints.jobs)
    job = _sync(endpoints.job)
    cancel_job = _sync(endpoints.cancel_job)
    preview_change = _sync(endpoints.preview_change)
    influence = _sync(endpoints.influence)
    preview_removal = _sync(endpoints.preview_removal)
    removal = _sync(endpoints.removal)
    receipt = _sync(endpoints.receipt)
    receipt_key = _sync(endpoints.receipt_key)
    is_receipt_of = _sync(endpoints.is_receipt_of)
    removals = _sync(endpoints.removals)
    evaluate = _sync(endpoints.evaluate)
    add_to_evaluation = _sync(endpoints.add_to_evaluation)
    start_evaluation = _sync(endpoints.start_evaluation)
    evaluations = _sync(endpoints.evaluations)
    evaluation = _sync(endpoints.evaluation)
    report = _sync(endpoints.report)
    delete_evaluation = _sync(endpoints.delete_evaluation)
    audit = _sync(endpoints.audit)
    usage = _sync(endpoints.usage)
    dead_letters = _sync(endpoints.dead_letters)
    me = _sync(endpoints.me)
    keys = _sync(endpoints.keys)
    create_key = _sync(endpoints.create_key)
    rotate_key = _sync(endpoints.rotate_key)
    revoke_key = _sync(endpoints.revoke_key)
    readiness = _sync(endpoints.readiness)


class AsyncClient:
    """A `Client` for asyncio and trio: the same arguments and methods, as coroutines."""

    def __init__(
        self,
        url: str = LOCAL_URL,
        key: str | None = None,
        timeout: float = 120.0,
        *,
        verify: Verify = True,
        proxy: str | None = None,
    ) -> None:
        self.url = url
        self.key = key
        transports = None if proxy else dict.fromkeys(LOOPBACK)
        self._http = httpx.AsyncClient(**_options(url, key, timeout, verify), proxy=proxy, mounts=transports)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, request: Request[Result]) -> Result:
        """Send a request of `visual_memory.services.client.endpoints`, and read its answer."""
        policy = RetryPolicy(self.url, request.tries)
        while True:
            try:
                answer = await self._http.request(request.method, request.path, **request.options)
            except httpx.TransportError as error:
                pause: float | None = policy.pause_after_failure(error)
            else:
                pause = policy.pause_after(answer)
                if pause is None:
                    return read_answer(request.read, answer)
            import anyio  # HTTPX needs it, and programs without an event loop do not

            await anyio.sleep(pause or 0)

    async def iterate(
        self,
        method: Callable[Parameters, Coroutine[Any, Any, Page[Item]]],
        /,
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> AsyncIterator[Item]:
        """Every item of a list, requested page by page; see `Client.iterate`."""
        options = {"limit": PAGE_SIZE, **kwargs}
        send: Callable[..., Coroutine[Any, Any, Page[Item]]] = method
        while True:
            page = await send(*args, **options)
            for each in page.data:
                yield each
            if page.next_cursor is None:
                return
            options["cursor"] = page.next_cursor

    async def events(self, types: Collection[EventType | str] = (), cursor: str | None = None) -> AsyncIterator[Event]:
        """Listen to what happens in the tenant of the key; see `Client.events`."""
        import anyio  # as in `send`

        stream = EventStream(types, cursor)
        while True:
            try:
                async with self._http.stream("GET", EVENTS, **stream.options(self._http.timeout)) as answer:
                    if answer.is_error:
                        await answer.aread()
                    stream.check(answer)
                    async for line in answer.aiter_lines():
                        if (event := stream.event(line)) is not None:
                            yield event
                pause = stream.pause_after_end()
            except (httpx.TransportError, VisualMemoryError) as error:
                pause = stream.pause_after(error)
            await anyio.sleep(pause)

    async def remove(self, request: RemovalRequest, *, wait_seconds: float = WAIT_SECONDS) -> Removal:
        """Remove the images that meet a filter, and wait for the receipt; see `Client.remove`."""
        return await self._wait_for_receipt(await self.send(endpoints.remove(request)), wait_seconds)

    async def remove_image(
        self, image_id: str, seen: Image | None = None, *, wait_seconds: float = WAIT_SECONDS
    ) -> Removal:
        """Remove one image, and wait for the receipt; see `Client.remove_image`."""
        return await self._wait_for_receipt(await self.send(endpoints.remove_image(image_id, seen)), wait_seconds)

    async def _wait_for_receipt(self, removal: Removal, wait_seconds: float) -> Removal:
        import anyio  # see `send`

        wait = ReceiptWait(wait_seconds)
        while (pause := wait.next_pause(removal)) is not None:
            await anyio.sleep(pause)
            with suppress(Unavailable):
                removal = await self.send(endpoints.removal(removal.id))
        return removal

    add = _async(endpoints.add)
    add_vectors = _async(endpoints.add_vectors)
    images = _async(endpoints.images)
    search = _async(endpoints.search)
    image = _async(endpoints.image)
    amend = _async(endpoints.amend)
    picture = _async(endpoints.picture)
    thumbnail = _async(endpoints.thumbnail)
    labels = _async(endpoints.labels)
    classify = _async(endpoints.classify)
    classify_vectors = _async(endpoints.classify_vectors)
    encoders = _async(endpoints.encoders)
    judge = _async(endpoints.judge)
    judgement = _async(endpoints.judgement)
    suspects = _async(endpoints.suspects)
    review = _async(endpoints.review)
    mark_reviewed = _async(endpoints.mark_reviewed)
    unmark_reviewed = _async(endpoints.unmark_reviewed)
    claim_reviews = _async(endpoints.claim_reviews)
    release_reviews = _async(endpoints.release_reviews)
    curate = _async(endpoints.curate)
    preview_curation = _async(endpoints.preview_curation)
    bulk = _async(endpoints.bulk)
    preview_bulk = _async(endpoints.preview_bulk)
    changes = _async(endpoints.changes)
    change = _async(endpoints.change)
    undo = _async(endpoints.undo)
    decisions = _async(endpoints.decisions)
    decision = _async(endpoints.decision)
    delete_decision = _async(endpoints.delete_decision)
    replay = _async(endpoints.replay)
    counterfactual = _async(endpoints.counterfactual)
    jobs = _async(endpoints.jobs)
    job = _async(endpoints.job)
    cancel_job = _async(endpoints.cancel_job)
    preview_change = _async(endpoints.preview_change)
    influence = _async(endpoints.influence)
    preview_removal = _async(endpoints.preview_removal)
    removal = _async(endpoints.removal)
    receipt = _async(endpoints.receipt)
    receipt_key = _async(endpoints.receipt_key)
    is_receipt_of = _async(endpoints.is_receipt_of)
    removals = _async(endpoints.removals)
    evaluate = _async(endpoints.evaluate)
    add_to_evaluation = _async(endpoints.add_to_evaluation)
    start_evaluation = _async(endpoints.start_evaluation)
    evaluations = _async(endpoints.evaluations)
    evaluation = _async(endpoints.evaluation)
    report = _async(endpoints.report)
    delete_evaluation = _async(endpoints.delete_evaluation)
    audit = _async(endpoints.audit)
    usage = _async(endpoints.usage)
    dead_letters = _async(endpoints.dead_letters)
    me = _async(endpoints.me)
    keys = _async(endpoints.keys)
    create_key = _async(endpoints.create_key)
    rotate_key = _async(endpoints.rotate_key)
    revoke_key = _async(endpoints.revoke_key)
    readiness = _async(endpoints.readiness)


def _options(url: str, key: str | None, timeout: float, verify: Verify) -> dict[str, Any]:
    """Options of HTTPX that both clients have."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": url, "headers": headers, "timeout": timeout, "verify": _trusted(verify)}


def _trusted(verify: Verify) -> bool | ssl.SSLContext:
    if isinstance(verify, bool | ssl.SSLContext):
        return verify
    is_folder = Path(verify).is_dir()
    return ssl.create_default_context(cafile=None if is_folder else verify, capath=verify if is_folder else None)
