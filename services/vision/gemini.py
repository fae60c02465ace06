"""The protocol of Gemini's API (generateContent)."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field

from services.vision.prompt import Prompt

URL = "https://generativelanguage.googleapis.com/v1beta"


@dataclass(frozen=True)
class Gemini:
    """Builds requests and reads answers.

    Attributes:
        url: the API's base, `URL` for Google's own.
        model: the model's name, without ``models/``.
        key: the API key.
        parameters: further fields of ``generationConfig``; they win over ours.
    """

    url: str
    model: str
    key: str
    parameters: Mapping[str, Any]

    def request(self, prompt: Prompt) -> httpx.Request:
        """The request that puts a prompt."""
        form = {"responseMimeType": "application/json", "responseSchema": prompt.schema()}
        body = {
            "contents": [{"role": "user", "parts": [_part(part) for part in prompt.parts()]}],
            "generationConfig": {**form, "temperature": 0, **self.parameters},
        }
        url = f"{self.url}/models/{quote(self.model, safe='')}:generateContent"
        return httpx.Request("POST", url, headers={"x-goog-api-key": self.key}, json=body)

    def read(self, body: bytes) -> str:
        """What the model wrote, without its thoughts.

        Raises:
            pydantic.ValidationError: the body is not of the protocol.
        """
        parts = _Generated.model_validate_json(body).candidates[0].content.parts
        return "".join(part.text for part in parts if not part.thought)


def _part(part: str | bytes) -> dict[str, Any]:
    if isinstance(part, str):
        return {"text": part}
    return {"inline_data": {"mime_type": "image/jpeg", "data": b64encode(part).decode()}}


class _Part(BaseModel):
    text: str = ""
    thought: bool = False


class _Content(BaseModel):
    parts: list[_Part]


class _Candidate(BaseModel):
    content: _Content


class _Generated(BaseModel):
    candidates: Annotated[list[_Candidate], Field(min_length=1)]
