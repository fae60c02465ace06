"""Headers of answers about what was made or begun: where it is, and when to ask for it again."""

from typing import Any

from fastapi import Response
from pydantic import BaseModel

from visual_memory.schemas.background_job import ENDED, Job

RETRY_AFTER_SECONDS = 1


def describe_headers(
    status: int, description: str, *, retry_after: bool = False, model: type[BaseModel] | None = None
) -> dict[int | str, dict[str, Any]]:
    """Describe an answer with `Location` for OpenAPI.

    Args:
        status: of the answer.
        description: of the answer.
        retry_after: whether it may have `Retry-After`.
        model: of its body, where that is not the model of the route.
    """
    headers: dict[str, Any] = {
        "Location": {
            "description": "the route of what was made or begun",
            "required": True,
            "schema": {"type": "string", "format": "uri-reference"},
        }
    }
    if retry_after:
        headers["Retry-After"] = {
            "description": "the seconds until it is worth asking again; absent once it has ended",
            "schema": {"type": "integer", "minimum": 0},
        }
    return {status: {"description": description, "headers": headers} | ({} if model is None else {"model": model})}


def set_location(response: Response, path: str, *, is_running: bool = False) -> None:
    """Say where a resource is and, while it runs, when to ask for it again."""
    response.headers["Location"] = path
    if is_running:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)


def set_job_location(response: Response, job: Job) -> None:
    """Say where a job is and, while it runs, when to ask for it again."""
    set_location(response, f"/v1/jobs/{job.id}", is_running=job.state not in ENDED)
