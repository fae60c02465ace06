"""Liveness and readiness. Public, and without data of any tenant.

Readiness covers what this process uses itself; whether workers run is checked where they are started.
"""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

router = APIRouter(tags=["health"])

NO_KEY: dict[str, Any] = {"security": []}
"""Says in OpenAPI that no key is needed."""

NEEDED = {"store", "pictures", "records", "clock"}
"""Components without which no request can be answered. Without the broker, accepted images wait for the sweep; without
the intake, only streams are affected."""


class Part(BaseModel):
    """A component: whether it answers, whether requests need it, and what is wrong."""

    ok: bool = Field(description="whether the component answers", examples=[True])
    needed: bool = Field(description="whether requests need it", examples=[True])
    detail: str = Field(default="", description="what is wrong; empty where it answers", examples=[""])


class Readiness(BaseModel):
    """Ready if every needed component answers; degraded if another one does not."""

    ready: bool = Field(description="whether every needed component answers", examples=[True])
    degraded: bool = Field(description="whether another component does not answer", examples=[False])
    parts: dict[str, Part] = Field(
        description="the components by name", examples=[{"store": {"ok": True, "needed": True, "detail": ""}}]
    )


@router.get("/healthz", operation_id="get_liveness", summary="Get liveness", openapi_extra=NO_KEY)
async def healthz() -> dict[str, str]:
    """Answer if the process is alive."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Get readiness",
    openapi_extra=NO_KEY,
    responses={503: {"model": Readiness}},
)
async def readyz(request: Request, response: Response) -> Readiness:
    """Return the state of every component; 503 if a needed one does not answer."""
    faults = await request.app.state.find_faults()
    components = {name: Part(ok=not fault, needed=name in NEEDED, detail=fault) for name, fault in faults.items()}
    ready = all(part.ok for part in components.values() if part.needed)
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, degraded=not all(part.ok for part in components.values()), parts=components)
