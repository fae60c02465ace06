"""Liveness and readiness. Public, and without data of any tenant.

Readiness covers what this process uses itself; whether workers run is checked where they are started.
"""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

router = APIRouter(tags=["health"])

NEEDED = {"store", "pictures", "records", "clock"}
"""Components without which no request can be answered. Without the broker, accepted images wait for the sweep; without
the intake, only streams are affected."""


class Part(BaseModel):
    """A component: whether it answers, whether requests need it, and what is wrong."""

    ok: bool
    needed: bool
    detail: str = ""


class Readiness(BaseModel):
    """Ready if every needed component answers; degraded if another one does not."""

    ready: bool
    degraded: bool
    parts: dict[str, Part]


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer if the process is alive."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(request: Request, response: Response) -> Readiness:
    """Return the state of every component; 503 if a needed one does not answer."""
    faults = await request.app.state.find_faults()
    components = {name: Part(ok=not fault, needed=name in NEEDED, detail=fault) for name, fault in faults.items()}
    ready = all(part.ok for part in components.values() if part.needed)
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, degraded=not all(part.ok for part in components.values()), parts=components)
