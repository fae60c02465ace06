"""The app: the routes, the errors and the limits put together around a wired service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI

from services.api import (
    audit,
    classify,
    curate,
    decisions,
    encoders,
    errors,
    evaluations,
    health,
    images,
    intake,
    metrics,
    receipts,
    removals,
    vectors,
)
from services.api.caller import KeyCheck
from services.api.describe import describe
from services.api.gate import Answering, Gate
from services.api.guard import check_guarded
from services.api.protocol import MOST_CONNECTIONS
from services.api.request_log import RequestLog
from services.api.shared_call import SharedCall
from services.bootstrap.api_process import ApiProcess
from services.bootstrap.wired import Wired
from services.intake.streams.stream_keys import StreamKeys
from services.settings import Settings

SPARE_THREADS = 16
"""For what needs a thread for a moment only: keys, health, uploads on their way."""


def create_app(settings: Settings, wired: Wired[ApiProcess]) -> FastAPI:
    """The ASGI app over a process that is wired."""
    process = wired.current()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = settings.api.max_requests + SPARE_THREADS
        yield

    app = FastAPI(
        title="Visual Memory",
        description="An image classifier that you teach by showing and un-teach by asking.",
        version="1",
        lifespan=lifespan,
        openapi_url=None,  # see `services.api.describe`
        responses={"4XX": {"model": errors.ErrorAnswer}, "5XX": {"model": errors.ErrorAnswer}},
    )
    app.state.service = wired
    app.state.key_check = KeyCheck(process.keys)
    app.state.find_faults = SharedCall(process.readiness.faults)
    app.state.gate = Gate(settings.api.max_requests, settings.api.max_held_bytes, MOST_CONNECTIONS)
    app.add_middleware(Answering)
    app.add_middleware(RequestLog)
    errors.install(app)
    for module in (
        classify,
        images,
        vectors,
        decisions,
        removals,
        receipts,
        curate,
        evaluations,
        intake,
        encoders,
        health,
        metrics,
        audit,
    ):
        check_guarded(module.router)
        app.include_router(module.router)
    describe(app, StreamKeys(settings.intake.prefix))
    return app
