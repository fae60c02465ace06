"""Health: is it alive, is every component there. Open to all, and says nothing of any tenant.

This process looks at what it needs itself: whether workers are there is for those to say who start them.
"""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

router = APIRouter(tags=["health"])

NEEDED = {"store", "pictures", "records", "clock"}
"""Without these no request can be answered; without the broker all are, and what is accepted waits for the sweep;
without the intake all are that come over HTTP."""


class Part(BaseModel):
    """One component: whether it answers, whether requests need it, and what is wrong."""

    ok: bool
    needed: bool
    detail: str = ""


class Readiness(BaseModel):
    """Ready when every component that requests need is there; degraded when another one is missing."""

    ready: bool
    degraded: bool
    parts: dict[str, Part]


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(request: Request, response: Response) -> Readiness:
    """Ask every component by name; 503 where one is missing that requests need."""
    faults = await request.app.state.find_faults()
    parts = {name: Part(ok=not fault, needed=name in NEEDED, detail=fault) for name, fault in faults.items()}
    ready = all(part.ok for part in parts.values() if part.needed)
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, degraded=not all(part.ok for part in parts.values()), parts=parts)
