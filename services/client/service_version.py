"""Compare the version of the service with that of this client."""

import re

import httpx

from visual_memory.schemas.compatibility import VERSION_HEADER
from visual_memory.schemas.errors import NoSuchPath

MAY_BE_UNKNOWN = frozenset({405, 422})
"""Statuses with which a service answers methods, parameters, fields and values that it does not know."""


def difference(answer: httpx.Response) -> str:
    """The end of a message that says that service and client are of different versions; empty where they are not."""
    service, client = _service_version(answer), _client_version()
    if service is None or _release(service) == _release(client):
        return ""
    how = "an earlier" if _release(service) < _release(client) else "a later"
    named = f", {service}," if service else ""
    return f"; the service is of {how} version{named} than this client, {client}"


def may_be_unknown(answer: httpx.Response, code: str) -> str:
    """The end of an error's message, where an earlier version of the service may not know what was requested."""
    service = _service_version(answer)
    refused = answer.status_code in MAY_BE_UNKNOWN or code == NoSuchPath.code
    if not refused or service is None or _release(service) >= _release(_client_version()):
        return ""
    return f"{difference(answer)}, and may not know this request"


def _service_version(answer: httpx.Response) -> str | None:
    """The version that an answer names; empty: one from before versions were named; None: not the service's answer."""
    version: str | None = answer.headers.get(VERSION_HEADER, "" if "X-Request-Id" in answer.headers else None)
    return version


def _client_version() -> str:
    from visual_memory import __version__

    return __version__


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a release, ``0.12.3rc1`` as (0, 12, 3)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
