"""The running services that end-to-end tests share: each module has a tenant, each test labels, subjects and ids."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import httpx._transports.default
import pytest
from httpx._config import create_ssl_context
from hypothesis import HealthCheck, settings

from tests.support import vision_server
from tests.support.databases import KINDS, new_database
from tests.support.running_service import Stack, as_tenant, new_folder, running, until
from tests.support.service_stores import service_stores
from visual_memory.services.infrastructure.processes import cpu_threads
from visual_memory.services.infrastructure.records.database import Database

cpu_threads.limit_library_threads()  # as in the service; nothing has imported torch yet

# how long an example takes says only what else the machine does; the same examples each time, for whoever changes
# something is to see what that broke: the fault tests draw others
settings.register_profile("tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# httpx reads all certificates for each client, in 24 ms, and tests open hundreds
httpx._transports.default.create_ssl_context = cache(create_ssl_context)  # type: ignore[attr-defined]


SHARED_SERVICES = {"_shared_stack", "_spare_stack", "_victims"}
"""The fixtures that start services for all modules."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine", choices=["qdrant-http", "qdrant-grpc"], help="run services over the Qdrant server of QDRANT_URL"
    )


def pytest_configure(config: pytest.Config) -> None:
    service_stores.engine = config.getoption("--engine")


@pytest.hookimpl(tryfirst=True)  # before the marks are selected by
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SHARED_SERVICES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.shared_service)
        if service_stores.engine is not None and item.get_closest_marker("one_machine"):
            item.add_marker(pytest.mark.skip("tests what only a service on one machine has"))
    items.sort(key=lambda item: item.get_closest_marker("stops_victim") is not None)  # then no other victim is started


def pytest_unconfigure() -> None:
    service_stores.close()


@pytest.fixture(scope="session")
def eye() -> Iterator[vision_server.Server]:
    """The server of the vision-language model that the shared service asks."""
    with vision_server.serving() as server:
        yield server


@pytest.fixture(scope="session")
def _shared_stack(eye: vision_server.Server) -> Iterator[Stack]:
    with new_folder() as folder, running(folder, **vision_server.settings(eye.url)) as service:
        yield service


@pytest.fixture(scope="module")
def module_tenant(request: pytest.FixtureRequest) -> str:
    """The tenant of a test module, so that modules run in any order."""
    return str(request.module.__name__.rpartition(".")[2].removeprefix("test_"))


@pytest.fixture(scope="module")
def stack(_shared_stack: Stack, module_tenant: str) -> Iterator[Stack]:
    """A whole service that no test kills anything of, idle."""
    until(lambda: not _shared_stack.pixel_files(), "the images of other modules to be remembered")
    with as_tenant(_shared_stack, module_tenant) as own:
        yield own


@pytest.fixture(scope="session")
def _spare_stack() -> Iterator[Stack]:
    with new_folder() as folder:
        (folder / "mirror").write_text("a file where a folder should be")
        with running(folder / "data", REMOVALS__MIRROR=str(folder / "mirror")) as service:
            yield service


@pytest.fixture(scope="module")
def spare(_spare_stack: Stack, module_tenant: str) -> Iterator[Stack]:
    """A whole service for modules that change it for all tenants; its mirror of receipts fails at first."""
    with as_tenant(_spare_stack, module_tenant) as own:
        yield own


@pytest.fixture(scope="session")
def _victims() -> Iterator[ExitStack]:
    with ExitStack() as services:
        yield services


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Empty records, in each kind of database in turn."""
    with new_database(request.param, tmp_path / "records") as made:
        yield made


_last: list[Stack] = []


@pytest.fixture
def victim(_victims: ExitStack, module_tenant: str) -> Iterator[Stack]:
    """A whole service for tests that kill its processes: ready, and another one where the last was stopped."""
    if not _last or not _last[-1].supervisor.is_running():
        small = {"INTAKE__MAX_BYTES": str(16 * 2**20)}
        _last.append(_victims.enter_context(running(_victims.enter_context(new_folder()), **small)))
    _last[-1].until_ready()
    with as_tenant(_last[-1], module_tenant) as own:
        yield own


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A data folder of one test."""
    with new_folder() as folder:
        yield folder
