"""A whole running service for the tests: every process is real."""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from unittest.mock import patch

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.support.service_stores import service_stores
from visual_memory.schemas.api_key import KeyRequest
from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import Image, ImageFields, State
from visual_memory.services.access.api_keys import ApiKeys
from visual_memory.services.bootstrap.wiring.wire_task_queue import key_prefix
from visual_memory.services.cli.temporary_service import free_port, temporary_service
from visual_memory.services.client.http_client import Client
from visual_memory.services.encoding.load_encoder import identify
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.redis_streams.stream_metrics import GAUGES
from visual_memory.services.settings import EncoderSettings, Settings

SETTINGS = {
    "METADATA": '{"site": "keyword", "age": "integer"}',
    "STORE__TIMEOUT": "20",
    "STORE__REQUEST_TIMEOUT": "6",
    "WORKER__SWEEP_SECONDS": "1",
    "WORKER__LEASE_SECONDS": "7",
    "PICTURES__MAX_PIXELS": "1000000",
    "PICTURES__MAX_BYTES": "300000",
    "PICTURES__DECODE_SECONDS": "6",
    "API__MAX_BODY_BYTES": "2000000",
    "API__MAX_IMAGES": "40",
    "CURATE__JUDGE_SECONDS": "0",
    "ENCODER__PRECISION": "float32",  # nothing is measured, and all machines test the same
    "ENCODER__BATCH_SIZE": "8",
}
ENCODER = identify(EncoderSettings()).name
"""What the vectors of the built-in encoder are called; there are 1280 numbers in one."""
PATIENCE = 60.0
POLL = 0.05
OWN_KEY = "own service"
"""The name of the key that a service's client has."""
MOST_VALUES = 1000
"""So many values a filter's list may have."""
OF_TENANT = ("visual_memory_images", "visual_memory_usage_today", *(f"visual_memory_intake_{name}" for name in GAUGES))
"""Metrics that a tenant sees; the operator's port shows all others."""

FOLDERS = {"redis": ".", "intake-redis": "intake"}
"""Servers of Redis, which are known by the folder that they work in: what they call themselves names their port."""

Result = TypeVar("Result")


def until(condition: Callable[[], Result | None], what: str, seconds: float = PATIENCE) -> Result:
    """Ask again and again until there is something, and return that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(POLL)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


def unique(name: str) -> str:
    """A name that no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class Stack:
    """A running service: its client, a plain HTTP client, its data folder, its processes, and the operator's port.

    Attributes:
        environment: its settings, as variables.
        database: its records.
        tenant: whose keys the two clients use.
    """

    client: Client
    http: httpx.Client
    data: Path
    supervisor: psutil.Process
    metrics_port: int
    environment: Mapping[str, str]
    database: Database
    tenant: str = "default"

    @property
    def keys(self) -> ApiKeys:
        """The service's keys."""
        return ApiKeys(self.database)

    def new_key(self, tenant: str | None = None, *scopes: str, **limits: int) -> str:
        """The text of a new key, by default of this tenant and with every scope."""
        wanted = {"name": "a test's", "tenant": tenant or self.tenant, "scopes": scopes or ["admin"], **limits}
        return self.keys.make(KeyRequest.model_validate(wanted)).text

    @contextmanager
    def caller(self, key: str | None) -> Iterator[httpx.Client]:
        """A plain HTTP client with another key, or without one."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False) as http:
            yield http

    @property
    def settings(self) -> Settings:
        """The service's settings."""
        with patch.dict(os.environ, self.environment):
            return Settings()

    @property
    def url(self) -> str:
        return str(self.http.base_url)

    def key_in_redis(self, name: str) -> str:
        """The full name of a key of this service's, such as a queue."""
        return f"{key_prefix(self.settings)}{name}"

    def teach(self, *pictures: bytes, **fields: Any) -> list[str]:
        """Send pictures with the same fields; their image ids."""
        sent = [(data, ImageFields.model_validate(fields)) for data in pictures]
        return [each.image_id for each in self.client.add(sent)]

    def settled(self, image_ids: Sequence[str], seconds: float = PATIENCE) -> dict[str, Image]:
        """The images once none of them waits any more."""

        def done() -> dict[str, Image] | None:
            parts = (image_ids[start : start + MOST_VALUES] for start in range(0, len(image_ids), MOST_VALUES))
            held = {name: image for part in parts for name, image in self.held({"image_id": list(part)}).items()}
            waiting = [image for image in held.values() if image.state is State.WAITING]
            return None if waiting or len(held) != len(set(image_ids)) else held

        return until(done, f"{len(image_ids)} images to be remembered", seconds)

    def remembered(self, image_ids: Sequence[str]) -> dict[str, Image]:
        """The images once all of them are remembered."""
        images = self.settled(image_ids)
        assert {image.state for image in images.values()} == {State.REMEMBERED}, images
        return images

    def held(self, where: dict[str, Any]) -> dict[str, Image]:
        """The images that meet a filter, by image id."""
        return {
            image.image_id: image for image in self.client.iterate(self.client.images, Filter.model_validate(where))
        }

    def picture_files(self) -> set[Path]:
        """The files of all pictures on the disk."""
        return {path for path in (self.data / "pictures").rglob("[!.]*") if path.is_file()}

    def pixel_files(self) -> set[Path]:
        """What lies beside the pictures of those that wait, but for thumbnails."""
        return {path for path in (self.data / "pictures").rglob(".*") if path.is_file() and path.suffix != ".jpg"}

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value, of this tenant where it sees it; 0 where it is not there yet."""
        shown = "/metrics" if name in OF_TENANT else f"http://127.0.0.1:{self.metrics_port}/metrics"
        families = text_string_to_metric_families(self.http.get(shown).text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def child(self, name: str) -> psutil.Process:
        """The process of this name, once there is one."""

        def find() -> psutil.Process | None:
            for process in self.supervisor.children():
                try:
                    command = process.cmdline()
                except psutil.NoSuchProcess:
                    continue
                if process.status() != psutil.STATUS_ZOMBIE and (
                    command[-2:] == ["visual_memory.services.cli", name] or self._is_redis(process, name)
                ):
                    return process
            return None

        return until(find, f"a process {name}")

    def _is_redis(self, process: psutil.Process, name: str) -> bool:
        folder = FOLDERS.get(name)
        try:
            works_in = Path(process.cwd())
        except psutil.NoSuchProcess:
            return False
        return "redis-server" in process.name() and folder is not None and works_in == (self.data / folder).resolve()

    def until_ready(self) -> None:
        """Wait until every part answers."""
        seen: list[object] = []

        def ready() -> bool:
            try:
                parts = self.client.readiness()["parts"]
                seen.append(parts)
                return all(part["ok"] for part in parts.values())
            except (Unavailable, KeyError, ValueError) as error:
                seen.append(error)
                return False

        try:
            until(ready, "the service to be ready")
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {seen[-1]}") from None


def stand_still(process: psutil.Process) -> None:
    """Suspend a process, once each of its threads has stopped: until its main thread has run, the others go on."""
    process.suspend()

    def have_stopped() -> bool:
        try:
            threads = [thread.read_text() for thread in Path(f"/proc/{process.pid}/task").glob("*/stat")]
        except FileNotFoundError:  # one has just ended
            return False
        return all(thread.rpartition(")")[2].split()[0] in "TZX" for thread in threads)

    until(have_stopped, "its threads to stop")


@contextmanager
def suspended(process: psutil.Process) -> Iterator[None]:
    """Let a process stand still for a while."""
    stand_still(process)
    try:
        yield
    finally:
        if process.is_running():
            process.resume()


@contextmanager
def running(data: Path, **settings: str) -> Iterator[Stack]:
    """A service over a data folder, stopped at the end."""
    port = free_port()
    given = {**SETTINGS, **service_stores.variables(data), "API__METRICS_PORT": str(port), **settings}
    with temporary_service(data, **given) as client:
        given |= {"DATA": str(data), "CONFIG": os.devnull}
        environment = {f"VISUAL_MEMORY_{name}": value for name, value in given.items()}
        headers = {"Authorization": f"Bearer {client.key}"}
        url = given.get("RECORDS__URL")
        with (
            httpx.Client(base_url=client.url, headers=headers, timeout=60, trust_env=False) as http,
            closing(Database(url) if url else Database.in_folder(data)) as database,
        ):
            yield Stack(client, http, data, _supervisor(), port, environment, database)


@contextmanager
def as_tenant(stack: Stack, tenant: str) -> Iterator[Stack]:
    """The same service with clients of another tenant."""
    key = stack.keys.make(KeyRequest.model_validate({"name": OWN_KEY, "tenant": tenant, "scopes": ["admin"]})).text
    with Client(stack.url, key) as client, stack.caller(key) as http:
        yield replace(stack, client=client, http=http, tenant=tenant)


@contextmanager
def new_folder() -> Iterator[Path]:
    """A folder with a path that is short enough for sockets."""
    with TemporaryDirectory(prefix="vm", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def fields(**values: Any) -> str:
    """The part ``fields`` of an upload."""
    return json.dumps(values)


def _supervisor() -> psutil.Process:
    """Its environment cannot be read, for it is closed to others."""
    found = [process for process in psutil.Process().children() if process.cmdline()[-1:] == ["up"]]
    assert found, "no supervisor"
    return max(found, key=psutil.Process.create_time)
