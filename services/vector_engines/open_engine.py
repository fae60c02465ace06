"""Open the engine that the settings name; each is imported only when used, because the server's client takes 45 MiB."""

from pathlib import Path

from visual_memory.services.settings import StoreSettings
from visual_memory.services.vector_engines.engine_contract import Engine


def open_engine(settings: StoreSettings, socket_path: Path, timeout: int) -> Engine:
    """The engine that the settings name; connects with the first call.

    Args:
        settings: with a URL, a Qdrant server; without, the owner process of this machine.
        socket_path: socket of that owner.
        timeout: seconds to wait for an answer; searches use the timeout of the settings.
    """
    if settings.url is not None:
        return _server(settings, timeout)
    from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient

    return EngineOwnerClient(socket_path, timeout, settings.timeout)


def open_exclusive_engine(settings: StoreSettings, folder: Path) -> Engine:
    """Open the engine for a command that runs without a service: without a server, the folder itself.

    Raises:
        Unavailable: a running service has opened the folder.
    """
    if settings.url is not None:
        return _server(settings, settings.timeout)
    from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

    return EdgeEngine(folder, settings.min_free_bytes)


def _server(settings: StoreSettings, timeout: int) -> Engine:
    from qdrant_client import QdrantClient

    from visual_memory.services.vector_engines.qdrant_server import QdrantServerEngine

    client = QdrantClient(
        url=settings.url,
        api_key=None if settings.api_key is None else settings.api_key.get_secret_value(),
        prefer_grpc=settings.grpc,
        grpc_port=settings.grpc_port,
        timeout=timeout,
        check_compatibility=False,  # it would call the server now, which may start later
    )
    return QdrantServerEngine(client, settings.collection, settings.shards, settings.replicas, settings.timeout)
