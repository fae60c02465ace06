"""Public documents that describe the API: OpenAPI, AsyncAPI, schemas of events, and the page `/docs`."""

import html
import json
from collections.abc import Callable, Mapping
from functools import cache
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
from visual_memory.services.api.web_pages import OWN_PACKAGE, serve_file, serve_page
from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys

OPENAPI = "/openapi.json"
DOCS = "/docs"
_SWAGGER_UI = "fastapi_swagger.resources"
FILES = {
    "swagger-ui-bundle.js": (_SWAGGER_UI, "swagger-ui-bundle.js"),
    "swagger-ui.css": (_SWAGGER_UI, "swagger-ui.css"),
    "favicon-32x32.png": (_SWAGGER_UI, "favicon-32x32.png"),
    "page.js": (OWN_PACKAGE, "docs_page.js"),
    "page.css": (OWN_PACKAGE, "docs_page.css"),
}
"""Files of the page by name: package and file."""
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
    """Serve `/docs` with its files; `/` leads there."""

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse(DOCS.removeprefix("/"))

    @app.get(ERRORS_PAGE, include_in_schema=False)
    async def errors() -> Response:
        headers = {"Content-Security-Policy": errors_page.CONTENT_SECURITY_POLICY}
        return Response(errors_page.errors_page(), media_type="text/html", headers=headers)

    serve_page(app, DOCS, "docs_page.html", lambda page: Template(page).substitute(streams=_streams(asyncapi(keys))))
    for name, (package, file) in FILES.items():
        serve_file(app, f"{DOCS}/{name}", package, file)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with keys and those bodies and events that FastAPI does not render itself."""
    document = app.openapi()
    bodies = (SentImages, ImageFields, ClassifyRequest, ClassifyOptions, Event, ProblemDetails)
    _, schemas = models_json_schema(
        [(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}"
    )
    document["components"]["schemas"] |= schemas["$defs"]
    paths = json.dumps(document["paths"])
    document["components"]["examples"] = {
        code: example for code, example in error_examples().items() if f'"#/components/examples/{code}"' in paths
    }
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
        f'<a href="{path.removeprefix("/")}">{path}</a>'
        for path in (OPENAPI, ASYNCAPI, IMAGE_EVENT, REMOVAL_EVENT, ERRORS_PAGE)
    )
    return (
        f'<section id="streams"><h2>Streams</h2><p>{html.escape(document["info"]["description"])}</p><dl>{rows}</dl>'
        f"<pre>{html.escape(command)}</pre><p>{links}</p></section>"
    )
