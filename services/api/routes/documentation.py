"""Public documents that describe the API: OpenAPI, AsyncAPI, schemas of events, and the page `/docs`."""

import html
import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from string import Template
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import RedirectResponse
from pydantic.json_schema import models_json_schema

from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.event import Event
from visual_memory.schemas.fault import ProblemDetails
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.intake_event import ImageEvent, RemovalEvent
from visual_memory.services.api import errors_page
from visual_memory.services.api.asyncapi_document import ASYNCAPI, IMAGE_EVENT, REMOVAL_EVENT, asyncapi, event_schema
from visual_memory.services.api.authorize import SECURITY
from visual_memory.services.api.error_responses import ERRORS_PAGE
from visual_memory.services.api.listed_errors import error_examples
from visual_memory.services.api.picture_uploads import ClassifyRequest, SentImages
from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys

OPENAPI = "/openapi.json"
DOCS = "/docs"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Holds the page to this origin, so that it works without internet and no other site learns who reads it."""
_SWAGGER_UI, _OWN = "fastapi_swagger.resources", "visual_memory.services.api"
ASSETS = {
    "swagger-ui-bundle.js": (_SWAGGER_UI, "swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": (_SWAGGER_UI, "swagger-ui.css", "text/css"),
    "favicon-32x32.png": (_SWAGGER_UI, "favicon-32x32.png", "image/png"),
    "page.js": (_OWN, "docs_page.js", "text/javascript"),
    "page.css": (_OWN, "docs_page.css", "text/css"),
}
"""Files of the page by name: package, file and media type."""
_EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "/camera",
    "type": "visual-memory.image.v1",
    "data": {"labels": ["cat"], "picture": "BASE64"},
}


def add_documents(app: FastAPI, keys: StreamKeys) -> None:
    """Serve the documents, each rendered once: that takes ten times as long as another request.

    Args:
        app: the app, with all its routes.
        keys: the names of the streams.
    """
    _serve_json(app, OPENAPI, lambda: _openapi(app))
    _serve_json(app, ASYNCAPI, lambda: asyncapi(keys))
    _serve_json(app, IMAGE_EVENT, lambda: event_schema(ImageEvent, "image-event"))
    _serve_json(app, REMOVAL_EVENT, lambda: event_schema(RemovalEvent, "removal-event"))
    _serve_page(app, keys)


def _serve_json(app: FastAPI, path: str, document: Callable[[], Mapping[str, Any]]) -> None:
    @cache
    def rendered() -> str:
        return json.dumps(document())

    @app.get(path, include_in_schema=False)
    async def serve() -> Response:
        return Response(rendered(), media_type="application/json")


def _serve_page(app: FastAPI, keys: StreamKeys) -> None:
    """Serve `/docs` with its files, all from this origin; `/` leads there."""

    @cache
    def page() -> str:
        template = resources.files(_OWN).joinpath("docs_page.html").read_text("utf-8")
        return Template(template).substitute(streams=_streams(asyncapi(keys)))

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse(DOCS.removeprefix("/"))

    @app.get(DOCS, include_in_schema=False)
    async def docs() -> Response:
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Referrer-Policy": "no-referrer"}
        return Response(page(), media_type="text/html", headers=headers)

    @app.get(ERRORS_PAGE, include_in_schema=False)
    async def errors() -> Response:
        headers = {"Content-Security-Policy": errors_page.CONTENT_SECURITY_POLICY}
        return Response(errors_page.errors_page(), media_type="text/html", headers=headers)

    for name, (package, file, media_type) in ASSETS.items():
        _serve_file(app, f"{DOCS}/{name}", package, file, media_type)


def _serve_file(app: FastAPI, path: str, package: str, file: str, media_type: str) -> None:
    @cache
    def content() -> bytes:
        return resources.files(package).joinpath(file).read_bytes()

    @app.get(path, include_in_schema=False)
    async def serve() -> Response:
        return Response(content(), media_type=media_type, headers={"Cache-Control": "max-age=3600"})


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with keys and those bodies and events that FastAPI does not render itself."""
    document = app.openapi()
    bodies = (SentImages, ImageFields, ClassifyRequest, ClassifyOptions, Event, ProblemDetails)
    _, schemas = models_json_schema(
        [(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}"
    )
    document["components"]["schemas"] |= schemas["$defs"]
    document["components"]["examples"] = error_examples()
    document["components"]["securitySchemes"] = SECURITY
    return document


def _streams(document: Mapping[str, Any]) -> str:
    """Render the section about the streams; it needs no script."""
    channels = document["channels"]
    rows = "".join(
        f"<dt><code>{html.escape(channel['address'])}</code></dt><dd>{html.escape(channel['description'])}</dd>"
        for channel in channels.values()
    )
    command = f"redis-cli XADD {channels['images']['address']} '*' event '{json.dumps(_EVENT)}'"
    links = " · ".join(
        f'<a href="{path.removeprefix("/")}">{path}</a>' for path in (OPENAPI, ASYNCAPI, IMAGE_EVENT, REMOVAL_EVENT)
    )
    return (
        f'<section id="streams"><h2>Streams</h2><p>{html.escape(document["info"]["description"])}</p><dl>{rows}</dl>'
        f"<pre>{html.escape(command)}</pre><p>{links}</p></section>"
    )
