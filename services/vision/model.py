"""A vision-language model behind HTTP: whatever its server does, there is a label, or a sentence on why not."""

from typing import Protocol

import httpx
from anyio import to_thread
from pydantic import ValidationError

from services.vision.prompt import NoAnswer, Prompt

HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "visual-memory"}
MOST_BYTES = 2**18
"""Longest answer that is read: a label, and the thoughts that some models tell with it."""


class Provider(Protocol):
    """A protocol that models are spoken to in."""

    @property
    def model(self) -> str:
        """The model's name."""

    def request(self, prompt: Prompt) -> httpx.Request:
        """The request that puts a prompt."""

    def read(self, body: bytes) -> str:
        """What the model wrote; raises `pydantic.ValidationError` where the body is not of the protocol."""


class VisionModel:
    """Asks a model; follows no redirects, keeps no cookies, and goes by no proxy of the environment.

    It has no limit of time: whoever asks cancels it.

    Args:
        provider: the protocol, with the model's name.

    Attributes:
        provider: as given.
    """

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self._http = httpx.AsyncHTTPTransport(trust_env=False)

    async def ask(self, prompt: Prompt) -> str:
        """The label that the model chooses.

        Raises:
            NoAnswer: its server cannot be reached, refuses, or answers with something else.
        """
        try:
            request = await to_thread.run_sync(self.provider.request, prompt)
            request.headers.update(HEADERS)
            response = await self._http.handle_async_request(request)
            try:
                body = await _read(response)
            finally:
                await response.aclose()
        except (httpx.TransportError, httpx.InvalidURL, UnicodeError):  # the last two: no such host can be
            raise NoAnswer("the model's server cannot be reached, or ends the connection") from None
        try:
            return prompt.read(self.provider.read(body))
        except ValidationError:
            raise NoAnswer("the model's server answers with something else than its protocol says") from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


async def _read(response: httpx.Response) -> bytes:
    if 300 <= response.status_code < 400:
        raise NoAnswer("the model's server answers with a redirect, which is not followed")
    if response.status_code != 200:
        raise NoAnswer(f"the model's server refuses: it answers {response.status_code}")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MOST_BYTES:
            raise NoAnswer(f"the model's server answers with more than {MOST_BYTES:,} bytes")
    return bytes(body)
