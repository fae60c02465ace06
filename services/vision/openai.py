"""OpenAI's protocol (chat completions), which vLLM, Ollama and most hosted models speak too."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, Field

from services.vision.prompt import Prompt


@dataclass(frozen=True)
class OpenAI:
    """Builds requests and reads answers.

    Attributes:
        url: the API's base, such as ``http://localhost:11434/v1``.
        model: the model's name.
        key: the API key; empty where it wants none.
        parameters: further fields of a request; they win over ours.
    """

    url: str
    model: str
    key: str
    parameters: Mapping[str, Any]

    def request(self, prompt: Prompt) -> httpx.Request:
        """The request that puts a prompt."""
        schema = {"name": "answer", "strict": True, "schema": {**prompt.schema(), "additionalProperties": False}}
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": [_part(part) for part in prompt.parts()]}],
            "response_format": {"type": "json_schema", "json_schema": schema},
            "temperature": 0,
            **self.parameters,
        }
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return httpx.Request("POST", f"{self.url}/chat/completions", headers=headers, json=body)

    def read(self, body: bytes) -> str:
        """What the model wrote.

        Raises:
            pydantic.ValidationError: the body is not of the protocol.
        """
        return _Completion.model_validate_json(body).choices[0].message.content


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
