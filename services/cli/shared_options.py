"""What every command needs: settings, errors as sentences, JSON for machines."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from visual_memory.schemas.filter import Filter
    from visual_memory.services.client.http_client import Client
    from visual_memory.services.settings import Settings

FAILED = 1
WRONG = 2
PARTLY = 3
BY = "command line"
"""Who did it, as the audit log has it."""
EVERYBODY = "*"
"""No tenant has this name: for what is done to all of them."""

Url = Annotated[str, typer.Option(envvar="VISUAL_MEMORY_URL", help="Where the API is.")]
Key = Annotated[str | None, typer.Option(envvar="VISUAL_MEMORY_KEY", help="The API key: vm_...")]
Subjects = Annotated[list[str] | None, typer.Option("--subject", help="Of this subject; may be repeated.")]
Sources = Annotated[list[str] | None, typer.Option("--source", help="From this source; may be repeated.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="With this label or one below it; may be repeated.")]
ImageIds = Annotated[list[str] | None, typer.Option("--image-id", help="This image; may be repeated.")]
Where = Annotated[str, typer.Option("--filter", help='Further conditions as JSON: {"metadata.site": "north"}.')]
Alpha = Annotated[float, typer.Option(help="Offset of the rank vote.")]
Temperature = Annotated[float, typer.Option(help="Temperature of the softmax vote.")]
Reason = Annotated[str, typer.Option(help="Why, for the record.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
LOCAL = "http://127.0.0.1:8700"


def own_data() -> "Settings":
    """The settings of a service whose data folder and secret are this user's alone, or a sentence on what is wrong."""
    from visual_memory.services.access.signing_secret import load_secret
    from visual_memory.services.infrastructure.storage.private_files import private_folder

    settings = read_settings()
    with errors():
        private_folder(settings.data.resolve())  # it may be a link to another disk
        load_secret(settings)
    return settings


def read_settings(data: "Path | None" = None) -> "Settings":
    """The settings, or a sentence that says what to change; `data` is another data folder than theirs."""
    from tomllib import TOMLDecodeError

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from visual_memory.schemas.errors import sentence
    from visual_memory.services.settings import Settings

    try:
        return Settings() if data is None else Settings(data=data)
    except ValidationError as error:
        faults = [sentence(fault["loc"], fault["msg"]) for fault in error.errors()]
    except TOMLDecodeError as error:
        faults = [f"the file of settings is not TOML: {error}"]
    except SettingsError as error:  # a file that is not there, or a value that should be JSON and is not
        faults = [f"{error}: write it as JSON" if error.__cause__ else str(error)]
    for fault in faults:
        typer.echo(f"settings: {fault}", err=True)
    raise typer.Exit(WRONG)


@contextmanager
def errors() -> Iterator[None]:
    """Turn foreseen errors into a sentence and an exit code."""
    from pydantic import ValidationError

    from visual_memory.schemas.errors import VisualMemoryError, sentence

    try:
        yield
    except VisualMemoryError as error:
        fail(f"{error.message} ({error.code})")
    except ValidationError as error:
        fail("; ".join(sentence(fault["loc"], fault["msg"]) for fault in error.errors()))
    except OSError as error:
        fail(str(error))


def print_json(value: dict[str, Any]) -> None:
    """One line of JSON on standard output."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def fail(message: str) -> NoReturn:
    """Say what is wrong, and end."""
    typer.echo(message, err=True)
    raise typer.Exit(FAILED)


@contextmanager
def connect(url: str, key: str | None) -> "Iterator[Client]":
    """The client of the API at this address."""
    from visual_memory.services.client.http_client import Client

    with Client(url, key) as client:
        yield client


def filter_of(
    subjects: list[str] | None,
    sources: list[str] | None,
    labels: list[str] | None,
    image_ids: list[str] | None,
    further: str,
) -> "Filter":
    """What the options of a command name, all of which must hold.

    Raises:
        InvalidRequest: they name too much for one filter, or a field is given twice.
    """
    from visual_memory.schemas.errors import InvalidRequest
    from visual_memory.schemas.filter import Filter
    from visual_memory.schemas.strict_json import parse_json

    named = {"subject": subjects, "source": sources, "labels": labels, "image_id": image_ids}
    written, options = parse_json(Filter, further), {field: values for field, values in named.items() if values}
    if twice := sorted(options.keys() & written.root.keys()):
        raise InvalidRequest(f"--filter: {twice[0]} is named by an option too: name it once")
    where = Filter.model_validate({**written.root, **options})
    where.check_size()
    return where
