"""Build the FastAPI app: routes, error handlers and middleware."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI

from visual_memory.services.api import error_responses
from visual_memory.services.api.admission_control import AdmissionControl, ChunkedResponses
from visual_memory.services.api.authenticate import CredentialChecks
from visual_memory.services.api.authorize import check_all_authorized
from visual_memory.services.api.batched_check import BatchedCheck
from visual_memory.services.api.connection_limits import MAX_CONNECTIONS
from visual_memory.services.api.listed_errors import any_error
from visual_memory.services.api.rate_limit_headers import RateLimitHeaders
from visual_memory.services.api.request_log import RequestLog
from visual_memory.services.api.routes import (
    audit,
    changes,
    classify,
    curation,
    dead_letters,
    decisions,
    encoders,
    evaluations,
    events,
    health,
    images,
    jobs,
    keys,
    me,
    metrics,
    pictures,
    receipts,
    removals,
    review,
    session,
    usage,
    vectors,
)
from visual_memory.services.api.routes.documentation import add_documents
from visual_memory.services.api.routes.login import add_login_page
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.bootstrap.wiring.wire_encoder_migration import ActiveUseCases
from visual_memory.services.bootstrap.wiring.wire_events import event_listeners_of
from visual_memory.services.infrastructure.events.event_listeners import EventListeners
from visual_memory.services.infrastructure.processes.coalesced_call import CoalescedCall
from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys
from visual_memory.services.settings import Settings

TAGS = {
    "images": "Send, list, search, show and change images; count labels.",
    "classify": "Classify pictures and vectors.",
    "decisions": "Stored decisions: replay, counterfactual, influence and preview.",
    "curation": "Judge the memory by itself; images that deserve a look.",
    "review": "What deserves a look by a person: the queue, marks and claims.",
    "changes": "Mute, unmute, relabel and amend images, with previews, and undo it.",
    "evaluations": "Measure how well the memory classifies.",
    "removals": "Remove images, with receipts.",
    "receipts": "Receipts and the key that verifies them.",
    "jobs": "Work that takes longer than a request.",
    "events": "What happens in the tenant, as it happens.",
    "intake": "Entries of the streams that could not be accepted.",
    "session": "The caller, sessions of browsers, and what the tenant uses.",
    "keys": "API keys of the tenant.",
    "audit": "Who did what.",
    "health": "Liveness, readiness and metrics.",
}
"""Tags of the routes, in the order of the data's way."""

EXTRA_THREADS = 16
"""Threads for short work outside the request slots: keys, health checks, uploads."""


def create_app(settings: Settings, wired: ActiveUseCases[ApiProcess]) -> FastAPI:
    """Build the ASGI app that serves the use cases of a process."""
    process = wired.current()

    def images_of(tenant: str, points: Sequence[str]) -> Mapping[str, str]:
        return wired.current().memory.images.ids_of_points(tenant, points)

    event_listeners = event_listeners_of(settings, images_of)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, EventListeners]]:
        current_default_thread_limiter().total_tokens = settings.api.max_concurrent_requests + EXTRA_THREADS
        yield {"event_listeners": event_listeners}  # for `services.api.connection_limits`
        await event_listeners.close()

    app = FastAPI(
        title="Visual Memory",
        description="An image classifier that you teach by showing and un-teach by asking.",
        version="1",
        lifespan=lifespan,
        contact={"name": "The Visual Memory authors"},
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/", "description": "This service."}],
        openapi_tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        separate_input_output_schemas=False,
        openapi_url=None,  # see `services.api.routes.documentation`
        responses=any_error(),
    )
    app.state.service = wired
    app.state.event_listeners = event_listeners
    app.state.credential_checks = CredentialChecks(
        BatchedCheck(process.keys), BatchedCheck(process.sessions), BatchedCheck(process.login_links)
    )
    app.state.find_faults = CoalescedCall(process.readiness.faults)
    app.state.admission_control = AdmissionControl(
        settings.api.max_concurrent_requests, settings.api.max_bytes_in_flight, MAX_CONNECTIONS
    )
    app.add_middleware(ChunkedResponses)
    app.add_middleware(RateLimitHeaders)
    app.add_middleware(RequestLog)
    error_responses.add_error_handlers(app)
    for module in (
        classify,
        images,
        pictures,
        vectors,
        decisions,
        removals,
        receipts,
        changes,
        curation,
        review,
        evaluations,
        events,
        jobs,
        dead_letters,
        encoders,
        health,
        metrics,
        audit,
        keys,
        session,
        me,
        usage,
    ):
        check_all_authorized(module.router)
        app.include_router(module.router)
    add_documents(app, StreamKeys(settings.intake.prefix))
    add_login_page(app)
    return app
