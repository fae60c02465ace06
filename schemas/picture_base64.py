"""The type of a picture in JSON: its bytes in base64."""

import base64
import binascii
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema


def _from_base64(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("a picture is sent as text in base64")  # noqa: TRY004 - pydantic wants a ValueError
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64: send the bytes of the picture's file, encoded as RFC 4648 says") from None


Picture = Annotated[
    bytes, BeforeValidator(_from_base64), WithJsonSchema({"type": "string", "contentEncoding": "base64"})
]
