"""Public documents that describe the API: OpenAPI, AsyncAPI, schemas of events, and the page `/docs`."""

import html
import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic.json_schema import models_json_schema

from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.intake_event import ImageEvent, RemovalEvent
from visual_memory.services.api.asyncapi_document import ASYNCAPI, IMAGE_EVENT, REMOVAL_EVENT, asyncapi, event_schema
from visual_memory.services.api.authorize import SECURITY
from visual_memory.services.api.picture_uploads import ClassifyRequest, SentImages
from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys

OPENAPI = "/openapi.json"
DOCS = "/docs"
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
    _serve(app, OPENAPI, lambda: _openapi(app))
    _serve(app, ASYNCAPI, lambda: asyncapi(keys))
    _serve(app, IMAGE_EVENT, lambda: event_schema(ImageEvent, "image-event"))
    _serve(app, REMOVAL_EVENT, lambda: event_schema(RemovalEvent, "removal-event"))

    @app.get(DOCS, include_in_schema=False)
    async def docs() -> Response:
        page = bytes(get_swagger_ui_html(openapi_url=OPENAPI, title=app.title).body).decode()
        return Response(page.replace("<body>", f"<body>{_streams(asyncapi(keys))}", 1), media_type="text/html")


def _serve(app: FastAPI, path: str, document: Callable[[], Mapping[str, Any]]) -> None:
    @cache
    def rendered() -> str:
        return json.dumps(document())

    @app.get(path, include_in_schema=False)
    async def serve() -> Response:
        return Response(rendered(), media_type="application/json")


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with keys and those bodies that FastAPI does not parse itself."""
    document = app.openapi()
    bodies = (SentImages, ImageFields, ClassifyRequest, ClassifyOptions)
    _, schemas = models_json_schema(
        [(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}"
    )
    document["components"]["schemas"] |= schemas["$defs"]
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
    links = " · ".join(f'<a href="{path}">{path}</a>' for path in (ASYNCAPI, IMAGE_EVENT, REMOVAL_EVENT))
    return (
        '<section id="streams" style="max-width: 1460px; margin: 1em auto; padding: 0 20px; font-family: sans-serif">'
        f"<h2>Streams</h2><p>{html.escape(document['info']['description'])}</p><dl>{rows}</dl>"
        f"<pre style='white-space: pre-wrap'>{html.escape(command)}</pre><p>{links}</p><h2>HTTP</h2></section>"
    )
