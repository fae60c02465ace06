"""Start a complete service and stop it again: for the demo, the tests and the benchmarks."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.client.http_client import Client
from visual_memory.services.infrastructure.processes.ready_message import ADDRESS, ReadyMessages, ready_messages

START_SECONDS = 120
POLL_SECONDS = 0.1


@contextmanager
def temporary_service(data: Path, **settings: str) -> Iterator[Client]:
    """Start ``visual-memory up`` on a free port, wait until it is ready, and stop it at the end.

    The client has a new key with every scope for the tenant ``default``.

    Args:
        data: the data folder.
        settings: settings by environment variable, without ``VISUAL_MEMORY_``. The caller's own variables (but for
            the encoder's) and settings file are ignored, so that it never touches a service in use.

    Raises:
        Unavailable: it did not start; the message says where the logs are.
    """
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not _is_setting(name)}
    given = {"DATA": str(data), "API__PORT": str(port), "CONFIG": os.devnull} | settings
    environment = inherited | {f"VISUAL_MEMORY_{name}": value for name, value in given.items()}
    made = subprocess.run(
        [
            sys.executable,
            "-m",
            "visual_memory.services.cli",
            "keys",
            "make",
            "own service",
            "--scope",
            "admin",
            "--json",
        ],
        env=environment,
        stdout=subprocess.PIPE,
        check=False,
    )
    if made.returncode:
        raise Unavailable(f"no key could be made in {data}, so the service was not started")
    with TemporaryDirectory(prefix="vm") as folder, ready_messages(Path(folder) / "ready") as messages:
        child_environment = {**environment, ADDRESS: f"{folder}/ready"}
        process = subprocess.Popen([sys.executable, "-m", "visual_memory.services.cli", "up"], env=child_environment)
        try:
            _wait_until_ready(messages, process, data)
            with Client(f"http://127.0.0.1:{port}", json.loads(made.stdout)["text"]) as client:
                yield client
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    """Return an unused TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(messages: ReadyMessages, process: "subprocess.Popen[bytes]", data: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if process.pid in messages.receive():
            return
        time.sleep(POLL_SECONDS)
    raise Unavailable(f"the service did not start; its logs are in {data / 'logs'}")


def _is_setting(name: str) -> bool:
    return name.startswith("VISUAL_MEMORY_") and not name.startswith("VISUAL_MEMORY_ENCODER__")
