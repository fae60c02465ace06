"""A fault of a request: where it is, its code, and a sentence; and the body of every error answer, as of RFC 9457."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MAX_FAULTS = 100
"""The most faults that an error lists; one more entry tells how many were left out."""
MAX_COUNTED = 1000
PROBLEM_JSON = "application/problem+json"
"""The media type of every error answer."""
MAX_NAME = 200
"""The most characters of a name in a pointer: a sender may give fields names of any length."""


def _is_none(value: Any) -> bool:
    return value is None


class Fault(BaseModel):
    """One fault of a request; only what applies of `pointer`, `parameter`, `header`, `part` and `index` is present."""

    model_config = ConfigDict(frozen=True)

    pointer: str | None = Field(
        default=None,
        exclude_if=_is_none,
        description="JSON pointer (RFC 6901) to the value, in the body or in the JSON of the parameter or part;"
        " empty: all of it",
        examples=["/images/0/labels"],
    )
    parameter: str | None = Field(
        default=None,
        exclude_if=_is_none,
        description="the parameter of the query or path that has the fault",
        examples=["limit"],
    )
    header: str | None = Field(
        default=None, exclude_if=_is_none, description="the header that has the fault", examples=["If-Match"]
    )
    part: str | None = Field(
        default=None, exclude_if=_is_none, description="the part of a form that has the fault", examples=["fields"]
    )
    index: int | None = Field(
        default=None,
        exclude_if=_is_none,
        description="which of the parts of this name, or of the lines of the part, counted from 0",
        examples=[3],
    )
    code: str = Field(description="a stable name of the kind of fault; new ones may be added", examples=["missing"])
    detail: str = Field(description="what is wrong, and what would be right", examples=["must be given"])

    @property
    def place(self) -> str:
        """Where the fault is, for people: ``images.0.labels``, ``limit``, ``fields, number 4: labels``."""
        inner = (self.pointer or "").removeprefix("/").replace("/", ".").replace("~1", "/").replace("~0", "~")
        if self.part is not None:
            outer = self.part if self.index is None else f"{self.part}, number {self.index + 1}"
            return f"{outer}: {inner}" if inner else outer
        return ".".join(filter(None, (self.parameter or self.header, inner)))

    def __str__(self) -> str:
        return f"{self.place}: {self.detail}" if self.place else self.detail


class ProblemDetails(BaseModel):
    """The body of every answer with a status of 400 or above: problem details as of RFC 9457."""

    type: str = Field(
        description="where the service describes this kind of error: a reference relative to the service's address",
        examples=["/docs/errors#not_found"],
    )
    title: str = Field(description="the kind of error in words; always the same for a code", examples=["Not found"])
    status: int = Field(description="the HTTP status of the answer", examples=[404], ge=400, le=599)
    detail: str = Field(
        description="a sentence for people: what is wrong, where, and what would be right",
        examples=["there is no image 'cat-7'"],
    )
    instance: str = Field(
        description="`urn:request:` and the X-Request-Id of the answer",
        examples=["urn:request:1b4e28ba2fa111d2883f0016d3cca427"],
    )
    code: str = Field(
        description="a stable name of the kind of error; new ones may be added, so treat one that you do not know as"
        " any error of its status",
        examples=["not_found"],
    )
    errors: list[Fault] = Field(
        default_factory=list,
        description=f"every fault of the request with its place, at most {MAX_FAULTS}, after which one more entry tells"
        " how many were left out; empty where the error is not of a part of the request",
        examples=[[{"pointer": "/images/0/labels", "code": "missing", "detail": "must be given"}]],
    )


def json_pointer(path: Sequence[int | str]) -> str:
    """A JSON pointer to a value.

    Args:
        path: the names and indexes on the way to it.
    """
    names = (str(name)[:MAX_NAME].encode(errors="backslashreplace").decode() for name in path)  # lone surrogates
    return "".join(f"/{name.replace('~', '~0').replace('/', '~1')}" for name in names)


def limited(faults: Sequence[Fault]) -> list[Fault]:
    """At most `MAX_FAULTS` faults, and one more entry that tells how many were left out."""
    more = len(faults) - MAX_FAULTS
    if more <= 0:
        return list(faults)
    left_out = Fault(code="more_faults", detail=f"there are {_number(more)} more faults")
    return [*faults[:MAX_FAULTS], left_out]


def summary(faults: Sequence[Fault], whole: str = "") -> str:
    """One sentence about faults: the only one, or their number and the first.

    Args:
        faults: at least one.
        whole: the name of the value for a fault of all of it.
    """
    first = str(faults[0]) if faults[0].place or not whole else f"{whole}: {faults[0].detail}"
    return first if len(faults) == 1 else f"there are {_number(len(faults))} faults; the first: {first}"


def _number(faults: int) -> str:
    """A number of faults as text: beyond `MAX_COUNTED` they are not counted."""
    return str(faults) if faults <= MAX_COUNTED else f"over {MAX_COUNTED:,}"
