"""The commands for encoders: another one is added beside the one that classifies, filled, switched to, dropped."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visual_memory.services.cli.commands import compare
from visual_memory.services.cli.shared_options import BY, EVERYBODY, FAILED, AsJson, Yes, errors, own_data, print_json

if TYPE_CHECKING:
    from visual_memory.services.bootstrap.encoder_commands import EncoderCommands
    from visual_memory.services.encoder_migration.encoder_status import EncoderStatus
    from visual_memory.services.encoder_migration.switch_encoder import SwitchResult
    from visual_memory.services.vector_engines.engine_contract import Compaction

app = typer.Typer(
    help="Add another encoder beside the one that classifies, fill it, compare, switch, and drop.", no_args_is_help=True
)

LOOK_SECONDS, LONGEST_LOOK = 2.0, 10.0
"""Between two looks, from which the rate is told: the longer where nothing was done in the shorter."""
REST = 50
"""While it is waited for a fill, the pause between two counts is so many times as long as a count: of a million images
it takes over a second, in which an embedded store answers nobody else."""
PAGE = 500
MOST_NAMED = 10

Name = Annotated[str, typer.Argument(metavar="NAME", help="The encoder, as 'encoder list' names it.")]
Added = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="The encoder; may be left out where one alone was added.")
]


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """Every encoder: what it does, how many images have its vector, how fast it is filled."""
    from visual_memory.services.cli import encoder_tables

    with errors(), _commands() as encoders:
        found = _with_rates(encoders)
    if as_json:
        for each in found:
            print_json(each)
    else:
        for each in found:
            encoder_tables.status(each)
        if not found:
            typer.echo("the memory has no encoder yet: start the service once", err=True)


@app.command()
def add(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="efficientnet-lite0 (built in), a model's hub name, or its folder.")
    ],
    pooling: Annotated[str | None, typer.Option(help="auto, cls, mean or pooler.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
    share: Annotated[float, typer.Option(help="Part of the time that each worker fills it, over 0 to 1.")] = 1.0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every image has its vector.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add an encoder beside the one that classifies; the workers fill it with what they have left of their time."""
    from visual_memory.schemas.encoder import FillSettings
    from visual_memory.services.settings import EncoderSettings

    with errors(), _commands("encoder.add") as encoders:
        FillSettings(share=share)
        said = {"name": name, "pooling": pooling, "precision": precision}
        ours = encoders.settings.encoder.model_dump() | {"pooling": "auto", "precision": "auto"}
        asked = EncoderSettings.model_validate({**ours, **{each: value for each, value in said.items() if value}})
        spec = encoders.add(asked, share)
        counts = encoders.filling_of(spec).fill_counts(None)
        if not as_json:
            filled = "its workers fill it now" if encoders.is_served else "it is filled once the service runs"
            typer.echo(f"{spec.name} is added ({spec.dimension} numbers): {counts.left} images are left, {filled}")
        if wait and encoders.is_served:
            _wait(encoders, spec.name, quiet=as_json)
        if as_json:
            print_json(_with_rates(encoders, spec.name)[0])
    if wait and not encoders.is_served:
        typer.echo(
            "no service runs, so nothing is waited for: start it, then see 'visual-memory encoder status'", err=True
        )


@app.command()
def status(name: Added = None, as_json: AsJson = False) -> None:
    """How far an added encoder is: exact counts, the rate, the time that is left."""
    from visual_memory.services.cli import encoder_tables

    with errors(), _commands() as encoders:
        [found] = _with_rates(encoders, name or _being_filled(encoders))
    if as_json:
        print_json(found)
    else:
        encoder_tables.status(found)


@app.command()
def pause(name: Added = None, as_json: AsJson = False) -> None:
    """Let an added encoder rest as it is; what is accepted meanwhile gets its vectors all the same."""
    _set_fill("encoder.pause", name, {"paused": True}, "paused within two seconds", as_json)


@app.command()
def resume(
    name: Added = None,
    share: Annotated[float | None, typer.Option(help="Part of the time that each worker fills it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fill it again, with another share of the time if one is named."""
    change = {"paused": False} | ({} if share is None else {"share": share})
    said = "filled again within two seconds, with {share:.0%} of the workers' time"
    _set_fill("encoder.resume", name, change, said, as_json)


app.command()(compare.compare)


@app.command()
def switch(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The encoder to classify with.")] = None,
    back: Annotated[bool, typer.Option("--back", help="To the one that classified before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Classify with another encoder from the next request on, once every image has its vector."""
    from visual_memory.services.cli import tables

    if (name is None) == (not back):
        raise typer.BadParameter("name an encoder, or say --back")
    with errors(), _commands("encoder.switch") as encoders, tables.stages(quiet=as_json) as tell:
        switched = encoders.switch(name, tell) if name else encoders.switch.back(tell)
        missing = _missing(encoders, switched.active.name, MOST_NAMED)
    _show_switched(switched, missing, as_json)


@app.command()
def drop(name: Name, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete an encoder's vectors, its index, what was computed from them, and their bytes; the pictures stay."""
    with errors(), _commands("encoder.drop") as encoders:
        counts = encoders.filling_of(encoders.records.get(name)).fill_counts(None)
        if not as_json:
            _warn_of_vectors(encoders)
        _confirm(f"Delete {counts.filled} vectors of {name} for good?", yes=yes)
        done = encoders.drop(name)
        note = _note(encoders, done)
    _show_dropped(name, done.erased, note, as_json)


@app.command()
def cancel(name: Added = None, yes: Yes = False, as_json: AsJson = False) -> None:
    """Take back that an encoder was added: its vectors are deleted, and their bytes."""
    with errors(), _commands("encoder.cancel") as encoders:
        named = name or encoders.drop.added()
        counts = encoders.filling_of(encoders.records.get(named)).fill_counts(None)
        _confirm(f"Delete {counts.filled} vectors of {named} for good?", yes=yes)
        done = encoders.drop.cancel(named)
        note = _note(encoders, done)
    _show_dropped(named, done.erased, note, as_json)


@app.command()
def missing(name: Name, as_json: AsJson = False) -> None:
    """Every image that has no vector of an encoder, and why."""
    with errors(), _commands() as encoders:
        for each in _missing(encoders, name):
            if as_json:
                print_json(each)
            else:
                typer.echo(f"{each['tenant']}  {each['image_id']}  {each['reason']}")


@contextmanager
def _commands(action: str | None = None) -> "Iterator[EncoderCommands]":
    """What the command works with; where it changes something, the audit log has a line of it, of no tenant."""
    from visual_memory.services.bootstrap.encoder_commands import encoder_commands
    from visual_memory.services.bootstrap.wiring.wire_records import audit_of, records_of

    settings = own_data()
    if action is None:
        with encoder_commands(settings) as encoders:
            yield encoders
        return
    with (
        records_of(settings) as database,
        audit_of(settings, database).deed(EVERYBODY, BY, action),
        encoder_commands(settings) as encoders,
    ):
        yield encoders


def _being_filled(encoders: "EncoderCommands") -> str:
    """The one that was added; after a switch, the active one."""
    from visual_memory.schemas.errors import NotFound

    try:
        return encoders.drop.added()
    except NotFound:
        active = encoders.records.active()
        if active is None:
            raise
        return active.name


def _with_rates(encoders: "EncoderCommands", name: str | None = None) -> list[dict[str, Any]]:
    """Every encoder, or one, with the images a second and the seconds that are left where it is being filled."""
    from visual_memory.schemas.errors import NotFound

    def look() -> "dict[str, EncoderStatus]":
        return {each.spec.name: each for each in encoders.show() if name in (None, each.spec.name)}

    first, begun = look(), time.monotonic()
    if name is not None and not first:
        raise NotFound(f"there is no encoder {name!r}: see 'visual-memory encoder list'")
    if not any(each.counts.left and not each.fill.paused and each.state != "dropping" for each in first.values()):
        return [_shown(each, 0.0) for each in first.values()]
    while True:
        time.sleep(LOOK_SECONDS)
        second, seconds = look(), time.monotonic() - begun
        if seconds > LONGEST_LOOK or any(_done(each) != _done(first.get(name)) for name, each in second.items()):
            break
    return [_shown(each, max(0, _done(each) - _done(first.get(name))) / seconds) for name, each in second.items()]


def _done(each: "EncoderStatus | None") -> int:
    return 0 if each is None else each.counts.filled + each.counts.failed


def _shown(each: "EncoderStatus", rate: float) -> dict[str, Any]:
    left = each.counts.left
    seconds = None if not left or not rate else round(left / rate)
    return {**each.model_dump(mode="json"), "images_per_second": round(rate, 1), "seconds_left": seconds}


def _wait(encoders: "EncoderCommands", name: str, *, quiet: bool) -> None:
    """Show how far it is until nothing is left; whoever breaks it off stops nothing."""
    from visual_memory.services.cli import tables

    filling = encoders.filling_of(encoders.records.get(name))
    with tables.stages(quiet=quiet) as tell:
        while True:
            encoders.records.get(name)  # or it was dropped
            begun = time.monotonic()
            counts = filling.fill_counts(None)
            done = counts.filled + counts.failed
            tell("filled", done, done + counts.left)
            if not counts.left:
                return
            time.sleep(max(1.0, REST * (time.monotonic() - begun)))


def _set_fill(action: str, name: str | None, change: dict[str, Any], said: str, as_json: bool) -> None:
    from visual_memory.schemas.encoder import FillSettings

    with errors(), _commands(action) as encoders:
        named = name or _being_filled(encoders)
        encoders.records.get(named)
        fill = FillSettings.model_validate({**encoders.records.fill(named).model_dump(), **change})
        encoders.records.set_fill(named, fill)
    if as_json:
        print_json({"name": named, **fill.model_dump(mode="json")})
    else:
        typer.echo(f"{named}: {said.format(share=fill.share)}")


def _missing(encoders: "EncoderCommands", name: str, most: int | None = None) -> list[dict[str, str]]:
    """Images without a vector of an encoder, of all tenants; so many at most."""
    spec = encoders.records.get(name)
    filling = encoders.filling_of(spec)
    found: list[dict[str, str]] = []
    for tenant in encoders.memory_of(spec).tenants():
        cursor: str | None = None
        while most is None or len(found) < most:
            images, cursor = filling.not_encoded(tenant, PAGE, cursor)
            found += [{"tenant": tenant, "image_id": image.image_id, "reason": reason} for image, reason in images]
            if cursor is None:
                break
    return found[:most]


def _show_switched(switched: "SwitchResult", missing: list[dict[str, str]], as_json: bool) -> None:
    active, counts = switched.active, switched.counts
    without = counts.failed + counts.vectors_only
    if as_json:
        said = {"active": active.model_dump(mode="json"), "counts": counts.model_dump(), "judged": [*switched.judged]}
        print_json({**said, "not_voting": without, "first_missing": missing})
        return
    typer.echo(f"{active.name} classifies from the next request on; {counts.filled} images have its vector")
    if without:
        typer.echo(
            f"{without} images do not vote under it: {counts.vectors_only} came as vectors of another encoder (send"
            f" vectors of {active.name} for them), {counts.failed} could not be encoded"
        )
        for each in missing:
            typer.echo(f"  {each['tenant']}  {each['image_id']}  {each['reason']}")
        if without > len(missing):
            typer.echo(f"  ... all of them: visual-memory encoder missing {active.name}")
    typer.echo(
        f"{active.before} is kept and gets new pictures too: 'visual-memory encoder switch --back' goes back to it,"
        f" 'visual-memory encoder drop {active.before}' deletes it"
    )


def _warn_of_vectors(encoders: "EncoderCommands") -> None:
    """Say which images lose what no picture brings back, where an encoder is dropped."""
    active = encoders.records.active()
    if active and (alone := encoders.filling_of(encoders.records.get(active.name)).fill_counts(None).vectors_only):
        typer.echo(
            f"{alone} images came as vectors of other encoders and have none of {active.name}, nor a picture to make"
            f" one of. Send theirs before the last one goes: 'visual-memory encoder missing {active.name}' lists them"
        )


def _note(encoders: "EncoderCommands", done: "Compaction") -> str:
    """What is to be said of a drop: of the compaction, and of settings that name what is gone."""
    from visual_memory.schemas.errors import EncoderMismatch
    from visual_memory.services.encoder_migration.active_encoder import resolve_active_encoder
    from visual_memory.services.encoding.encoder_contract import EncoderUnusable

    try:
        resolve_active_encoder(encoders.records, None, encoders.settings.encoder)
    except (EncoderMismatch, EncoderUnusable) as error:
        return f"{done.note} The next start is refused until that is changed: {error.message}".strip()
    return done.note


def _confirm(question: str, *, yes: bool) -> None:
    if not yes and not typer.confirm(question):
        raise typer.Exit(FAILED)


def _show_dropped(name: str, erased: bool, note: str, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "erased": erased, "note": note})
    else:
        typer.echo(f"{name} is dropped" + (", and its bytes are erased from the disk" if erased else ""))
        typer.echo(note, nl=bool(note))
