"""The body of an error answer, as a service would send it."""

from typing import Any


def problem(status: int, code: str, detail: str, *errors: dict[str, Any]) -> dict[str, Any]:
    """Problem details with some faults."""
    return {
        "type": f"/docs/errors#{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": "urn:request:try-1",
        "code": code,
        "errors": list(errors),
    }
