"""CSRF tokens: what a page must send with a session's cookie, so that no other site can use the session.

The token is derived from the cookie, which scripts cannot read (HttpOnly), and only answers of this origin contain it.
"""

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256

from visual_memory.schemas.errors import Forbidden

CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110, section 9.2.1)."""


def csrf_token(cookie: str) -> str:
    """The CSRF token of a session's cookie: 43 characters."""
    return urlsafe_b64encode(hmac.digest(cookie.encode(), b"csrf", sha256)).decode().rstrip("=")


def check_csrf_token(cookie: str, sent: str | None) -> None:
    """Check the token of a request that may change something.

    Raises:
        Forbidden: it is missing or wrong.
    """
    if sent is None or not hmac.compare_digest(csrf_token(cookie).encode(), sent.encode()):
        raise Forbidden(f"send the session's csrf_token, which GET /v1/session returns, as {CSRF_HEADER}")
