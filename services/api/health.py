"""Health: is it alive, is every part there. Open to all, and says nothing of any tenant."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

router = APIRouter(tags=["health"])

NEEDED = {"store", "pictures"}
"""Without these no request can be answered; without the others what is accepted waits."""


class Part(BaseModel):
    """One part: whether it answers, whether requests need it, and what is wrong."""

    ok: bool
    needed: bool
    detail: str = ""


class Readiness(BaseModel):
    """Ready when every part that requests need is there; workers and broker may come later."""

    ready: bool
    parts: dict[str, Part]


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(request: Request, response: Response) -> Readiness:
    """Ask every part by name."""
    faults = await request.app.state.find_faults()
    parts = {name: Part(ok=not fault, needed=name in NEEDED, detail=fault) for name, fault in faults.items()}
    ready = all(part.ok for part in parts.values() if part.needed)
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, parts=parts)
