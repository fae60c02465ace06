"""Health: is it alive, is every part there. Open to all, and says nothing of any tenant."""

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

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


class Examinations:
    """Strangers may ask as often as they like: there is one examination at a time, and those who wait share the next.

    Nobody is told what an examination found that had begun before they asked: a part may have failed since.
    """

    def __init__(self, examine: Callable[[], dict[str, str]]) -> None:
        self._examine = examine
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[dict[str, str]] | None = None

    async def faults(self) -> dict[str, str]:
        """What is wrong with each part, by name, found after this was called."""
        if self._next is None:
            self._next = asyncio.create_task(self._examine_in_turn())
        return await asyncio.shield(self._next)

    async def _examine_in_turn(self) -> dict[str, str]:
        async with self._turn:
            self._next = None
            return await run_in_threadpool(self._examine)


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(request: Request, response: Response) -> Readiness:
    """Ask every part by name."""
    faults = await request.app.state.examinations.faults()
    parts = {name: Part(ok=not fault, needed=name in NEEDED, detail=fault) for name, fault in faults.items()}
    ready = all(part.ok for part in parts.values() if part.needed)
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, parts=parts)
