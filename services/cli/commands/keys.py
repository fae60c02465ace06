"""The commands for keys: they work on the records of the settings' service, which need not run."""

from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.shared_options import BY, AsJson, errors, own_data, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.api_key import NewKey
    from visual_memory.services.access.api_keys import Within
    from visual_memory.services.access.audit_log import Audit
    from visual_memory.services.settings import Settings

app = typer.Typer(help="Make, list, revoke and rotate API keys.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as 'keys list' shows it.")]


@app.command()
def make(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    scopes: Annotated[
        list[str],
        typer.Option("--scope", help="classify, read, remember, remove or admin (all); may be repeated."),
    ],
    tenant: Annotated[str, typer.Option(help="Whose memory it opens.")] = "default",
    requests_per_minute: Annotated[int | None, typer.Option(help="Most requests.")] = None,
    bytes_per_minute: Annotated[int | None, typer.Option(help="Most bytes of requests' bodies.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it this once."""
    from visual_memory.schemas.api_key import KeyRequest
    from visual_memory.services.access.api_keys import Keys
    from visual_memory.services.bootstrap.wiring.wire_records import audit_of, records_of

    with errors():
        settings = own_data()
        asked = {"requests_per_minute": requests_per_minute, "bytes_per_minute": bytes_per_minute}
        wanted = KeyRequest.model_validate({"name": name, "tenant": tenant, "scopes": scopes, **asked})
        with records_of(settings) as database:
            new = Keys(database).make(wanted, _logged(audit_of(settings, database), "keys.make"))
    _show_new(new, as_json)


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """Every key with its tenant, scopes and limits; revoked ones too."""
    from visual_memory.services.access.api_keys import Keys
    from visual_memory.services.bootstrap.wiring.wire_records import records_of
    from visual_memory.services.cli import tables

    with errors():
        settings = own_data()
        with records_of(settings) as database:
            found = Keys(database).all()
    if as_json:
        for key in found:
            print_json(key.model_dump(mode="json"))
    else:
        tables.keys(found)


@app.command()
def revoke(key_id: KeyId, as_json: AsJson = False) -> None:
    """Let a key open nothing any more, for ever."""
    from visual_memory.services.access.api_keys import Keys
    from visual_memory.services.bootstrap.wiring.wire_records import audit_of, records_of

    with errors():
        settings = own_data()
        with records_of(settings) as database:
            revoked = Keys(database).revoke(key_id, _logged(audit_of(settings, database), "keys.revoke"))
    if as_json:
        print_json(revoked.model_dump(mode="json"))
    else:
        typer.echo(f"{key_id} ({revoked.name}) opens nothing from a second on")


@app.command()
def rotate(key_id: KeyId, as_json: AsJson = False) -> None:
    """Give a key a new secret, and print it this once; the old one opens nothing from a second on."""
    from visual_memory.services.access.api_keys import Keys
    from visual_memory.services.bootstrap.wiring.wire_records import audit_of, records_of

    with errors():
        settings = own_data()
        with records_of(settings) as database:
            new = Keys(database).rotate(key_id, _logged(audit_of(settings, database), "keys.rotate"))
    _show_new(new, as_json)


def make_first(settings: "Settings") -> None:
    """Where no key was ever made, make one that may do everything for the tenant ``default``, and show it."""
    from visual_memory.schemas.api_key import KeyRequest, Scope
    from visual_memory.services.access.api_keys import Keys
    from visual_memory.services.bootstrap.wiring.wire_records import audit_of, records_of

    with records_of(settings) as database:
        keys = Keys(database)
        if keys.exist():
            return
        logged = _logged(audit_of(settings, database), "keys.make", "first start")
        new = keys.make(KeyRequest(name="first", tenant="default", scopes=[Scope.ADMIN]), logged)
    typer.echo(f"a key was made, and is shown only this once:\n  export VISUAL_MEMORY_KEY={new.text}", err=True)


def _logged(audit: "Audit", action: str, by: str = BY) -> "Within":
    """What writes a row of the audit log in the transaction that changes a key."""
    return lambda connection, key: audit.record(connection, key.tenant, by, action, about_key=key.id)


def _show_new(new: "NewKey", as_json: bool) -> None:
    if as_json:
        print_json({**new.key.model_dump(mode="json"), "text": new.text})
    else:
        typer.echo(f"{new.key.id} ({new.key.name}); this is shown only once:", err=True)
        typer.echo(new.text)
