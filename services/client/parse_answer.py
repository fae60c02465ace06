"""Parse the JSON of answers, whether this version of the service gave them or a later one."""

from typing import TypeVar

from pydantic import TypeAdapter

from visual_memory.schemas.compatibility import ANSWER

Result = TypeVar("Result")


def parse_json(kind: TypeAdapter[Result], text: str | bytes) -> Result:
    """An object from its JSON; fields that this version does not know are ignored, and unknown words are kept.

    Raises:
        ValidationError: it is of another form.
    """
    return kind.validate_json(text, extra="ignore", context={ANSWER})
