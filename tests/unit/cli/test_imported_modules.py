"""What a command imports: no more than it needs, so that it answers at once and a small process stays small."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "sentence_transformers", "sklearn", "scipy", "matplotlib"}
ENGINE = {"qdrant_client", "qdrant_edge", "grpc"}
SERVER = {"fastapi", "uvicorn", "starlette"}
QUEUE = {"celery", "kombu"}
NUMBERS = {"numpy", "PIL"}
SETTINGS = "from visual_memory.services.settings import Settings; settings = Settings()"
BEAT = f"""{SETTINGS}
from visual_memory.services.bootstrap.wiring.wire_task_queue import celery_of
celery_of(settings).Beat
"""
UP = """
import visual_memory.services.cli.commands.up
import visual_memory.services.infrastructure.processes.supervisor
"""


@pytest.mark.parametrize(
    ("code", "spared"),
    [
        (
            "from visual_memory.services.cli.app import app",
            HEAVY | ENGINE | SERVER | QUEUE | NUMBERS | {"pydantic", "httpx"},
        ),
        (
            UP,
            HEAVY | ENGINE | SERVER | QUEUE | NUMBERS,
        ),
        (
            f"{SETTINGS}; from visual_memory.services.bootstrap.wiring import wire_records",
            HEAVY | ENGINE | SERVER | QUEUE | NUMBERS | {"httpx"},
        ),
        (
            BEAT,
            HEAVY | ENGINE | SERVER | NUMBERS | {"httpx"},
        ),
        ("import visual_memory.services.client.http_client", HEAVY | ENGINE | SERVER | QUEUE | NUMBERS),
        ("import visual_memory.services.vector_engines.engine_owner_process", HEAVY | SERVER | QUEUE),
        ("import visual_memory.services.decoding.sandbox.sandbox_child", HEAVY | ENGINE | SERVER | QUEUE | {"httpx"}),
        (
            "from visual_memory.services.bootstrap import api_process, intake_process, worker_process",
            HEAVY | SERVER | ENGINE,
        ),
        (
            "import visual_memory.services.bootstrap.job_process, visual_memory.workers.remember_and_job_tasks",
            HEAVY | SERVER | ENGINE | {"httpx"},
        ),
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
    assert "visual_memory" in imported
    assert not imported & spared
