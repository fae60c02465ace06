"""Where services of tests keep their points: in the embedded engine, or on a Qdrant server in a collection of each."""

from contextlib import ExitStack
from pathlib import Path

from tests.support.databases import new_postgresql
from tests.support.qdrant_servers import as_variables, delete_collection, store_settings


class ServiceStores:
    """The stores of services, by their data folders.

    Attributes:
        engine: ``qdrant-http`` or ``qdrant-grpc``: the server; None: the embedded engine.
    """

    def __init__(self, engine: str | None = None) -> None:
        self.engine = engine
        self._variables: dict[Path, dict[str, str]] = {}
        self._opened = ExitStack()

    def variables(self, data: Path) -> dict[str, str]:
        """The settings of a service over a data folder; one that is started again finds what it stored.

        Over a server, the records and the intake have to be outside of the machine too.
        """
        if self.engine is None:
            return {}
        if data not in self._variables:
            self._variables[data] = self._open(self.engine)
        return self._variables[data]

    def _open(self, engine: str) -> dict[str, str]:
        from tests.support.intake_redis import intake_server

        store = store_settings(engine)
        self._opened.callback(delete_collection, store)
        intake = self._opened.enter_context(intake_server())
        return {**as_variables(store), "RECORDS__URL": new_postgresql(), "INTAKE__URL": intake.url}

    def close(self) -> None:
        """Delete the collections, and end what was started."""
        self._variables.clear()
        self._opened.close()


service_stores = ServiceStores()
