"""qdrant-client's local mode for threads: a server does one operation on a point after the other, it does not."""

import threading
from functools import wraps
from typing import Any, cast

from qdrant_client import QdrantClient


def local_client() -> QdrantClient:
    """A client of an empty local mode that does one call after the other, from whatever threads these come."""
    return cast(QdrantClient, _OneAtATime(QdrantClient(":memory:")))


class _OneAtATime:
    def __init__(self, client: QdrantClient) -> None:
        self._client = client
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        @wraps(method)
        def alone(*arguments: Any, **named: Any) -> Any:
            with self._lock:
                return method(*arguments, **named)

        return alone
