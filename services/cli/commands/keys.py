"""The group `keys`: make, list, revoke and rotate API keys in the records; the service need not run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error, fail
from visual_memory.services.cli.local_data import ACTOR, local_settings
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Url, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.api_key import Key, NewKey
    from visual_memory.services.access.api_keys import Within
    from visual_memory.services.access.audit_log import AuditLog
    from visual_memory.services.infrastructure.records.database import Database
    from visual_memory.services.settings import Settings

app = typer.Typer(help="Make, list, revoke and rotate API keys.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as 'keys list' shows it.")]


@app.command()
def make(
    name: Annotated[str, typer.Argument(help="A name for people.")],
    scopes: Annotated[
        list[str],
        typer.Option("--scope", help="classify, read, remember, remove or admin (all); may be repeated."),
    ],
    tenant: Annotated[str, typer.Option(help="The tenant that it gives access to.")] = "default",
    requests_per_minute: Annotated[int | None, typer.Option(help="Limit of requests.")] = None,
    bytes_per_minute: Annotated[int | None, typer.Option(help="Limit of bytes in request bodies.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it; it is shown only once."""
    from visual_memory.schemas.api_key import KeyRequest
    from visual_memory.services.access.api_keys import ApiKeys
    from visual_memory.services.bootstrap.wiring.wire_records import audit_of, records_of

    with exit_on_error():
        settings = local_settings()
        limits = {"requests_per_minute": requests_per_minute, "bytes_per_minute": bytes_per_minute}
        request = KeyRequest.model_validate({"name": name, "tenant": tenant, "scopes": scopes, **limits})
        with records_of(settings) as database:
            new = ApiKeys(database).make(request, _audit_entry(audit_of(settings, database), "keys.make"))
    _print_new_key(new, as_json)


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List every key with its tenant, scopes and limits, revoked ones too."""
    from visual_memory.services.access.api_keys import ApiKeys
    from visual_memory.services.bootstrap.wiring.wire_records import records_of

    with exit_on_error():
        settings = local_settings()
        with records_of(settings) as database:
            found = ApiKeys(database).all()
    if as_json:
        for key in found:
            print_json(key.model_dump(mode="json"))
    else:
        _print_keys(found)


@app.command()
def revoke(key_id: KeyId, as_json: AsJson = False) -> None:
    """Revoke a key permanently."""
    from visual_memory.services.access.api_keys import ApiKeys
    from visual_memory.services.bootstrap.wiring.wire_records import audit_of, records_of

    with exit_on_error():
        settings = local_settings()
        with records_of(settings) as database:
            revoked = ApiKeys(database).revoke(key_id, _audit_entry(audit_of(settings, database), "keys.revoke"))
    if as_json:
        print_json(revoked.model_dump(mode="json"))
    else:
        typer.echo(f"{key_id} ({revoked.name}) is revoked; the service refuses it within a second")


@app.command()
def rotate(key_id: KeyId, as_json: AsJson = False) -> None:
    """Give a key a new secret, and print it once; the service refuses the old one within a second."""
    from visual_memory.services.access.api_keys import ApiKeys
    from visual_memory.services.bootstrap.wiring.wire_records import audit_of, records_of

    with exit_on_error():
        settings = local_settings()
        with records_of(settings) as database:
            new = ApiKeys(database).rotate(key_id, _audit_entry(audit_of(settings, database), "keys.rotate"))
    _print_new_key(new, as_json)


@app.command()
def link(key_id: KeyId, url: Url = DEFAULT_URL) -> None:
    """Print a link that logs a browser in with a key: once, within an hour."""
    from visual_memory.services.access.api_keys import ApiKeys
    from visual_memory.services.bootstrap.wiring.wire_records import records_of

    with exit_on_error(), records_of(local_settings()) as database:
        found = ApiKeys(database).load(key_id)
        if found.revoked_at is not None:
            fail(f"key {key_id} is revoked: make a new one")
        typer.echo(_login_link(database, found, url))


def login_link(settings: "Settings", url: str) -> str | None:
    """A link that logs a browser in with the oldest valid key that has every scope; None if there is none."""
    from visual_memory.schemas.api_key import Scope
    from visual_memory.services.access.api_keys import ApiKeys
    from visual_memory.services.bootstrap.wiring.wire_records import records_of

    with records_of(settings) as database:
        valid = (key for key in ApiKeys(database).all() if key.revoked_at is None and Scope.ADMIN in key.scopes)
        found = next(valid, None)
        return _login_link(database, found, url) if found else None


def _login_link(database: "Database", key: "Key", url: str) -> str:
    from visual_memory.services.access.browser_tokens import login_links_of

    return f"{url.rstrip('/')}/login#{login_links_of(database).make(key).text}"


def make_first_key(settings: "Settings") -> None:
    """If no key exists yet, make one with every scope for the tenant ``default``, and print it."""
    from visual_memory.schemas.api_key import KeyRequest, Scope
    from visual_memory.services.access.api_keys import ApiKeys
    from visual_memory.services.bootstrap.wiring.wire_records import audit_of, records_of

    with records_of(settings) as database:
        keys = ApiKeys(database)
        if keys.exist():
            return
        logged = _audit_entry(audit_of(settings, database), "keys.make", "first start")
        new = keys.make(KeyRequest(name="first", tenant="default", scopes=[Scope.ADMIN]), logged)
    typer.echo(f"made a key; it is shown only once:\n  export VISUAL_MEMORY_KEY={new.text}", err=True)


def _audit_entry(audit: "AuditLog", action: str, by: str = ACTOR) -> "Within":
    """Return a callback that writes the audit log entry in the transaction that changes a key."""
    return lambda connection, key: audit.record(connection, key.tenant, by, action, about_key=key.id)


def _print_new_key(new: "NewKey", as_json: bool) -> None:
    if as_json:
        print_json({**new.key.model_dump(mode="json"), "text": new.text})
    else:
        typer.echo(f"{new.key.id} ({new.key.name}); this is shown only once:", err=True)
        typer.echo(new.text)


def _print_keys(keys: "Sequence[Key]") -> None:
    """Print keys as a table, without their secrets."""
    from rich.markup import escape
    from rich.table import Column, Table

    from visual_memory.services.cli.terminal_output import console

    columns = ("name", "tenant", "scopes", "a minute", "made", "revoked")
    table = Table(Column("id", no_wrap=True), *columns, box=None, padding=(0, 2))
    for key in keys:
        limits = (f"{key.requests_per_minute or 'any'} requests", f"{key.bytes_per_minute or 'any'} bytes")
        revoked = f"{key.revoked_at:%Y-%m-%d}" if key.revoked_at else ""
        made = f"{key.created_at:%Y-%m-%d}"
        table.add_row(key.id, escape(key.name), key.tenant, ", ".join(key.scopes), ", ".join(limits), made, revoked)
    console.print(table)
