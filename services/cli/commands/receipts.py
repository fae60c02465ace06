"""Verify receipts, and the group `receipts`: fetch one, print the public key."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from visual_memory.services.cli.exit_codes import FAILED, USAGE_ERROR, exit_on_error
from visual_memory.services.cli.local_data import read_settings
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Key, Url, connect, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.filter import Filter
    from visual_memory.services.bootstrap.wiring.wire_receipts import Receipts
    from visual_memory.services.receipts.parse_receipt import Receipt
    from visual_memory.services.receipts.receipt_signature import ReceiptChecker
    from visual_memory.services.settings import Settings

app = typer.Typer(help="Fetch receipts, and the public key that verifies them.", no_args_is_help=True)

Data = Annotated[Path | None, typer.Option("--data", help="The service's data folder; default: from the settings.")]


@app.command()
def key(
    data: Data = None, plain: Annotated[bool, typer.Option("--base64", help="Only its 32 bytes, in base64.")] = False
) -> None:
    """Print the public key as a JSON Web Key, for `verify-receipt --key` and other JOSE tools."""
    from visual_memory.services.access.signing_secret import load_secret
    from visual_memory.services.bootstrap.wiring.wire_receipts import signer_of

    with _exit_on_usage_error():
        public = signer_of(load_secret(_settings(data))).key
    typer.echo(public.base64 if plain else public.model_dump_json())


@app.command()
def get(
    removal_id: Annotated[str, typer.Argument(metavar="ID", help="The removal's id.")],
    erasure: Annotated[bool, typer.Option("--erasure", help="The erasure receipt instead.")] = False,
    url: Url = DEFAULT_URL,
    key_: Key = None,
) -> None:
    """Fetch the receipt of a removal, byte for byte as issued: `... get ID > receipt.json`."""
    with exit_on_error(), connect(url, key_) as client:
        typer.echo(client.receipt(removal_id, erasure=erasure), nl=False)


def verify_receipt(
    files: Annotated[list[Path], typer.Argument(help="Receipts as they were issued.", exists=True, dir_okay=False)],
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key", help="The public key, a file written by `receipts key`; nothing else is needed.", dir_okay=False
        ),
    ] = None,
    data: Data = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="JSON: check also that this is the filter of the receipts.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify receipts: by the public key only, or also against the log of the service.

    Exit codes: 0 all are valid; 1 one is not, and the output says why; 2 wrong usage.
    """
    if key_file and data:
        raise typer.BadParameter("give --key or --data, not both")
    texts = {file: file.read_bytes().decode("utf-8", "replace") for file in files}
    with _exit_on_usage_error():
        condition = _parse_filter(filter_)
        found = _by_key(texts, key_file, condition) if key_file else _in_log(texts, data, condition)
    for file, (receipt, faults) in found.items():
        _print_result(file, receipt, faults, as_json)
    if any(faults for _, faults in found.values()):
        raise typer.Exit(FAILED)


_Results = dict[Path, "tuple[Receipt | None, list[str]]"]
"""The receipt of each file, if it is one, and its faults."""


def _by_key(texts: dict[Path, str], key_file: Path, condition: "Filter | None") -> _Results:
    from visual_memory.services.receipts.parse_receipt import OTHER_FILTER, names_filter
    from visual_memory.services.receipts.receipt_signature import ReceiptChecker

    checker = ReceiptChecker.of(key_file.read_text())
    found = {file: _read(text, checker) for file, text in texts.items()}
    for receipt, faults in found.values():
        if receipt is not None and condition is not None:
            if receipt.version > 1:
                _refuse("--filter needs data of the service: give --data instead of --key")
            faults.extend([] if names_filter(receipt, condition) else [OTHER_FILTER])
    receipts = [receipt for receipt, _ in found.values() if receipt]
    digests = {receipt.removal: receipt.digest for receipt in receipts if receipt.event == "done"}
    for receipt, faults in found.values():
        named = receipt and receipt.fields.get("receipt")
        if receipt and named and digests.get(receipt.removal, named) != named:
            faults.append("it is the erasure's receipt of another removal than the other file's")
    return found


def _in_log(texts: dict[Path, str], data: Path | None, condition: "Filter | None") -> _Results:
    with _open_receipts(data) as receipts:
        check = receipts.check()
        return {file: (_read(text, receipts.log.signer)[0], check(text, condition)) for file, text in texts.items()}


def _read(text: str, checker: "ReceiptChecker") -> "tuple[Receipt | None, list[str]]":
    from visual_memory.services.receipts.parse_receipt import parse_receipt
    from visual_memory.services.receipts.receipt_signature import NotValid

    try:
        return parse_receipt(text, checker), []
    except NotValid as error:
        return None, [str(error)]


@contextmanager
def _open_receipts(data: Path | None) -> "Iterator[Receipts]":
    from visual_memory.services.access.signing_secret import load_secret
    from visual_memory.services.bootstrap.wiring.wire_receipts import receipts_of
    from visual_memory.services.bootstrap.wiring.wire_records import records_of

    settings = _settings(data)
    if settings.records.url is None and not (settings.data / "records.db").exists():
        _refuse(f"{settings.data} has no records.db: start this version of the service once")
    with records_of(settings) as database:
        yield receipts_of(settings, database, load_secret(settings))


def _settings(data: Path | None) -> "Settings":
    """Load the settings of an existing service; nothing is created if there is none."""
    from visual_memory.services.infrastructure.storage.data_paths import DataPaths

    settings = read_settings(data)
    if settings.secret is None and not DataPaths(settings.data).secret.exists():
        _refuse(f"{settings.data} is not the data folder of a service: it has no secret")
    return settings


def _parse_filter(text: str | None) -> "Filter | None":
    from visual_memory.schemas.filter import Filter
    from visual_memory.schemas.strict_json import parse_json

    return None if text is None else parse_json(Filter, text)


def _print_result(file: Path, receipt: "Receipt | None", faults: list[str], as_json: bool) -> None:
    if as_json:
        print_json({"file": str(file), "valid": not faults, "faults": faults, "says": receipt and dict(receipt.fields)})
        return
    typer.echo(f"{file}: {'not valid' if faults else 'valid'}")
    if receipt is not None:
        about = f"{receipt.event} of {receipt.removal} of tenant {receipt.tenant}, entry {receipt.number} of its log"
        typer.echo(f"  version {receipt.version}: {about}")
    for fault in faults:
        typer.echo(f"  {fault}")


@contextmanager
def _exit_on_usage_error() -> Iterator[None]:
    """Exit with code 2 if the check cannot be made, which says nothing about the receipts."""
    from pydantic import ValidationError

    from visual_memory.schemas.errors import VisualMemoryError
    from visual_memory.schemas.validation_faults import first_faults

    try:
        yield
    except ValidationError as error:
        _refuse(first_faults(error, "filter"))
    except (VisualMemoryError, OSError, ValueError) as error:
        _refuse(str(error))


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(USAGE_ERROR)
