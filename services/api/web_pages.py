"""Serve web pages and their files, all from this origin."""

import mimetypes
from collections.abc import Callable
from functools import cache
from importlib import resources

from fastapi import FastAPI, Response

OWN_PACKAGE = "visual_memory.services.api"
"""Holds the files of our own pages."""
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Holds a page to this origin, so that it works without internet and no other site learns who reads it."""


def serve_page(app: FastAPI, path: str, file: str, render: Callable[[str], str] = str) -> None:
    """Serve a page, without a key.

    Args:
        app: the app.
        path: its path.
        file: its HTML, in our own package.
        render: called once with the HTML; returns what is served.
    """

    @cache
    def page() -> str:
        return render(resources.files(OWN_PACKAGE).joinpath(file).read_text("utf-8"))

    @app.get(path, include_in_schema=False)
    async def serve() -> Response:
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Referrer-Policy": "no-referrer"}
        return Response(page(), media_type="text/html", headers=headers)


def serve_file(app: FastAPI, path: str, package: str, file: str) -> None:
    """Serve a file of a package, without a key."""
    media_type, _ = mimetypes.guess_type(file)

    @cache
    def content() -> bytes:
        return resources.files(package).joinpath(file).read_bytes()

    @app.get(path, include_in_schema=False)
    async def serve() -> Response:
        return Response(content(), media_type=media_type, headers={"Cache-Control": "max-age=3600"})
