"""The page that opens a session: with a key, or with the token of a login link, which is in the URL's fragment."""

from fastapi import FastAPI

from visual_memory.services.api.web_pages import OWN_PACKAGE, serve_file, serve_page

LOGIN = "/login"


def add_login_page(app: FastAPI) -> None:
    """Serve `/login`."""
    serve_page(app, LOGIN, "login_page.html")
    serve_file(app, f"{LOGIN}.js", OWN_PACKAGE, "login_page.js")
