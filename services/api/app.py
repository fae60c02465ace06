"""The app: the routes, the errors and the limits put together around a wired service."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic.json_schema import models_json_schema

from schemas.decision import ClassifyOptions
from schemas.image import ImageFields
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
from services.api.gate import Answering, Gate
from services.api.guard import SECURITY, check_guarded
from services.api.protocol import MOST_CONNECTIONS
from services.api.request_log import RequestLog
from services.api.shared_call import SharedCall
from services.api.uploads import ClassifyRequest, SentImages
from services.bootstrap.api_process import ApiProcess
from services.bootstrap.wired import Wired
from services.settings import Settings

DOCUMENT = "/openapi.json"
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
        openapi_url=None,  # see `_describe`
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
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """Serve the OpenAPI document, written once: to write it takes ten times as long as to answer a request else.

    It has what FastAPI does not see: keys, and the bodies that it does not parse itself.
    """

    @cache
    def document() -> str:
        found = app.openapi()
        bodies = (SentImages, ImageFields, ClassifyRequest, ClassifyOptions)
        _, schemas = models_json_schema(
            [(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}"
        )
        found["components"]["schemas"] |= schemas["$defs"]
        found["components"]["securitySchemes"] = SECURITY
        return json.dumps(found)

    @app.get(DOCUMENT, include_in_schema=False)
    async def openapi() -> Response:
        return Response(document(), media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(openapi_url=DOCUMENT, title=app.title)
