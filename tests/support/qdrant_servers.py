"""The Qdrant server that QDRANT_URL names, over HTTP and gRPC: each test engine or service gets a collection.

QDRANT_GRPC_PORT (6334) and QDRANT_API_KEY say the rest.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr
from qdrant_client import QdrantClient

from visual_memory.services.settings import StoreSettings
from visual_memory.services.vector_engines.engine_contract import Engine
from visual_memory.services.vector_engines.open_engine import open_engine

URL = os.environ.get("QDRANT_URL")
SERVER_ENGINES = ["qdrant-http", "qdrant-grpc"] if URL else []


def store_settings(engine: str) -> StoreSettings:
    """The settings by which a service reaches the server, with a collection that no other test uses."""
    key = os.environ.get("QDRANT_API_KEY")
    return StoreSettings(
        url=URL,
        api_key=SecretStr(key) if key else None,
        grpc=engine == "qdrant-grpc",
        grpc_port=int(os.environ.get("QDRANT_GRPC_PORT", "6334")),
        collection=f"test-{uuid.uuid4()}",
    )


def as_variables(settings: StoreSettings) -> dict[str, str]:
    """Settings as a service's environment, without ``VISUAL_MEMORY_``."""
    key = {} if settings.api_key is None else {"STORE__API_KEY": settings.api_key.get_secret_value()}
    return {
        "STORE__URL": str(settings.url),
        "STORE__GRPC": str(settings.grpc),
        "STORE__GRPC_PORT": str(settings.grpc_port),
        "STORE__COLLECTION": settings.collection,
        **key,
    }


def delete_collection(settings: StoreSettings) -> None:
    """Delete what a test has left on the server."""
    key = settings.api_key.get_secret_value() if settings.api_key else None
    client = QdrantClient(url=settings.url, api_key=key, timeout=30)
    client.delete_collection(settings.collection)
    client.close()


@contextmanager
def server_engine(name: str) -> Iterator[Engine]:
    """An engine over the server, as the settings open it."""
    settings = store_settings(name)
    engine = open_engine(settings, Path(), timeout=30)
    try:
        yield engine
    finally:
        engine.close()
        delete_collection(settings)
