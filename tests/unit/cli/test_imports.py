"""What a command imports: no more than it needs, so that it answers at once and a small process stays small."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "sentence_transformers", "sklearn", "scipy", "matplotlib"}
ENGINE = {"qdrant_client", "qdrant_edge", "grpc"}
SERVER = {"fastapi", "uvicorn", "starlette"}
QUEUE = {"celery", "kombu"}
NUMBERS = {"numpy", "PIL"}
SETTINGS = "from services.settings import Settings; settings = Settings()"


@pytest.mark.parametrize(
    ("code", "spared"),
    [
        ("from services.cli.app import app", HEAVY | ENGINE | SERVER | QUEUE | NUMBERS | {"pydantic", "httpx"}),
        ("import services.cli.processes, services.runtime.supervisor", HEAVY | ENGINE | SERVER | QUEUE | NUMBERS),
        (
            f"{SETTINGS}; import services.access.keys, services.bootstrap.wire_access, services.bootstrap.wire_records",
            HEAVY | ENGINE | SERVER | QUEUE | NUMBERS | {"httpx"},
        ),
        (
            f"{SETTINGS}; from services.bootstrap.wire_task_queue import celery_of; celery_of(settings).Beat",
            HEAVY | ENGINE | SERVER | NUMBERS | {"httpx"},
        ),
        ("import services.client", HEAVY | ENGINE | SERVER | QUEUE | NUMBERS),
        ("import services.memory.embedded.owner", HEAVY | SERVER | QUEUE),
        ("import services.perception.confined", HEAVY | ENGINE | SERVER | QUEUE | {"httpx"}),
        ("from services.bootstrap import api_process, intake_process, worker_process", HEAVY | SERVER | ENGINE),
        ("import services.bootstrap.job_process, workers.tenant_task", HEAVY | SERVER | ENGINE | {"httpx"}),
    ],
    ids=[
        "help",
        "up",
        "keys",
        "beat",
        "client",
        "engine",
        "decoder",
        "api, worker and reader, before the encoder",
        "jobs",
    ],
)
def test_it_imports_no_more_than_it_needs(code: str, spared: set[str]) -> None:
    told = f"{code}\nimport sys; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in ended.stdout.split()}
    assert "services" in imported
    assert not imported & spared
