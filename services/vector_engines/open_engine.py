"""Which engine the settings ask for; each is imported where it is asked for, for a server's client takes 45 MiB."""

from pathlib import Path

from visual_memory.services.settings import StoreSettings
from visual_memory.services.vector_engines.engine_contract import Engine


def open_engine(settings: StoreSettings, socket_path: Path, timeout: int) -> Engine:
    """The engine that the settings name; connects with the first call.

    Args:
        settings: with an address, a Qdrant server; without, the owner process of this machine.
        socket_path: where that owner listens.
        timeout: seconds to wait for an answer; a search may take as long as the settings say.
    """
    if settings.url is not None:
        return _server(settings, timeout)
    from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient

    return EngineOwnerClient(socket_path, timeout, settings.timeout)


def open_exclusive_engine(settings: StoreSettings, folder: Path) -> Engine:
    """The same for a command that must not share it: without a server, the folder itself.

    Raises:
        Unavailable: a running service holds the folder.
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
        check_compatibility=False,  # it would ask the server now, which may start after us
    )
    return QdrantServerEngine(client, settings.collection, settings.shards, settings.replicas, settings.timeout)
