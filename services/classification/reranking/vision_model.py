"""Client of a vision-language model with OpenAI's protocol (chat completions), which vLLM, Ollama and Gemini offer too.

Every fault of the server becomes a `NoAnswer` with a sentence.
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import Annotated, Any

import httpx
from anyio import to_thread
from pydantic import BaseModel, Field, ValidationError

from visual_memory.services.classification.reranking.prompt_and_answer import NoAnswer, Prompt

HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "visual-memory"}
MAX_BYTES = 2**18
"""The longest response that is read: a label, and the reasoning that some models add."""


class VisionModel:
    """Sends questions to a model; without redirects, cookies, and proxies from the environment.

    It has no timeout: the caller cancels it.

    Args:
        url: the API's base, such as ``http://localhost:11434/v1``.
        name: the model's name.
        key: the API key; empty where none is needed.
        parameters: further fields of a request; they override the built-in ones.

    Attributes:
        name: the model's name.
    """

    def __init__(self, url: str, name: str, key: str, parameters: Mapping[str, Any]) -> None:
        self.name = name
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._key = key
        self._parameters = parameters
        self._http = httpx.AsyncHTTPTransport(trust_env=False)

    async def ask(self, prompt: Prompt) -> str:
        """The label that the model chooses.

        Raises:
            NoAnswer: the server cannot be reached, refuses, or sends an invalid response.
        """
        try:
            request = await to_thread.run_sync(self._request, prompt)
            response = await self._http.handle_async_request(request)
            try:
                body = await _read(response)
            finally:
                await response.aclose()
        except (httpx.TransportError, httpx.InvalidURL, UnicodeError):  # the last two: the host name is invalid
            raise NoAnswer("the model's server cannot be reached, or closed the connection") from None
        try:
            return prompt.read(_Completion.model_validate_json(body).choices[0].message.content)
        except ValidationError:
            raise NoAnswer("the response of the model's server does not follow the protocol") from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _request(self, prompt: Prompt) -> httpx.Request:
        schema = {"name": "answer", "strict": True, "schema": prompt.schema()}
        body = {
            "model": self.name,
            "messages": [{"role": "user", "content": [_part(part) for part in prompt.parts()]}],
            "response_format": {"type": "json_schema", "json_schema": schema},
            "temperature": 0,
            **self._parameters,
        }
        headers = {**HEADERS, "Authorization": f"Bearer {self._key}"} if self._key else HEADERS
        return httpx.Request("POST", self._url, headers=headers, json=body)


async def _read(response: httpx.Response) -> bytes:
    if 300 <= response.status_code < 400:
        raise NoAnswer("the model's server answered with a redirect, which is not followed")
    if response.status_code != 200:
        raise NoAnswer(f"the model's server refused the request with status {response.status_code}")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_BYTES:
            raise NoAnswer(f"the response of the model's server has more than {MAX_BYTES:,} bytes")
    return bytes(body)


def _part(part: str | bytes) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{b64encode(part).decode()}"}}


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message


class _Completion(BaseModel):
    choices: Annotated[list[_Choice], Field(min_length=1)]
