"""The group `encoder`: add an encoder, fill it, and show the progress; further commands are in `encoder_*`."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visual_memory.services.cli.commands.encoder_compare import compare
from visual_memory.services.cli.commands.encoder_switch import AddedName, cancel, drop, missing, switch
from visual_memory.services.cli.exit_codes import exit_on_error
from visual_memory.services.cli.local_data import encoder_commands
from visual_memory.services.cli.shared_options import AsJson, print_json

if TYPE_CHECKING:
    from visual_memory.services.bootstrap.encoder_commands import EncoderCommands
    from visual_memory.services.encoder_migration.encoder_status import EncoderStatus

app = typer.Typer(
    help="Add a second encoder, fill it, compare it with the first, switch to it, and drop one.", no_args_is_help=True
)

SAMPLE_SECONDS, MAX_SAMPLE_SECONDS = 2.0, 10.0
"""Seconds between the two counts that give the rate; longer if nothing changed in the shorter time."""
PAUSE_PER_COUNT = 50
"""Pause between two counts while waiting, as a multiple of the time that a count takes: for a million images that is
over a second, in which an embedded store answers no other request."""
STATES = {"active": "classifies", "before": "classified before", "added": "added", "dropping": "being dropped"}


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List every encoder: its state, how many images have its vector, and how fast it is filled."""
    with exit_on_error(), encoder_commands() as encoders:
        found = _with_rates(encoders)
    if as_json:
        for each in found:
            print_json(each)
    else:
        for each in found:
            _print_encoder(each)
        if not found:
            typer.echo("the memory has no encoder yet: start the service once", err=True)


@app.command()
def add(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="efficientnet-lite0 (built in), a model's hub name, or its folder.")
    ],
    pooling: Annotated[str | None, typer.Option(help="auto, cls, mean or pooler.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
    share: Annotated[float, typer.Option(help="Share of each worker's time for filling it, above 0 to 1.")] = 1.0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every image has its vector.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add a second encoder; the workers compute its vectors in their spare time."""
    from visual_memory.schemas.encoder import FillSettings
    from visual_memory.services.settings import EncoderSettings

    with exit_on_error(), encoder_commands("encoder.add") as encoders:
        FillSettings(share=share)
        given = {"name": name, "pooling": pooling, "precision": precision}
        defaults = encoders.settings.encoder.model_dump() | {"pooling": "auto", "precision": "auto"}
        requested = EncoderSettings.model_validate(
            {**defaults, **{each: value for each, value in given.items() if value}}
        )
        spec = encoders.add(requested, share)
        counts = encoders.missing_vectors_of(spec).counts(None)
        if not as_json:
            filled = "its workers fill it now" if encoders.is_served else "it is filled once the service runs"
            typer.echo(f"{spec.name} is added ({spec.dimension} numbers): {counts.left} images are left, {filled}")
        if wait and encoders.is_served:
            _wait_until_filled(encoders, spec.name, quiet=as_json)
        if as_json:
            print_json(_with_rates(encoders, spec.name)[0])
    if wait and not encoders.is_served:
        typer.echo(
            "no service runs, so there is nothing to wait for: start it, and see 'visual-memory encoder status'",
            err=True,
        )


@app.command()
def status(name: AddedName = None, as_json: AsJson = False) -> None:
    """Show the progress of an added encoder: exact counts, rate, and time left."""
    with exit_on_error(), encoder_commands() as encoders:
        [found] = _with_rates(encoders, name or _being_filled(encoders))
    if as_json:
        print_json(found)
    else:
        _print_encoder(found)


@app.command()
def pause(name: AddedName = None, as_json: AsJson = False) -> None:
    """Stop filling an added encoder; images accepted meanwhile still get its vectors."""
    _set_fill("encoder.pause", name, {"paused": True}, "paused within two seconds", as_json)


@app.command()
def resume(
    name: AddedName = None,
    share: Annotated[float | None, typer.Option(help="Share of each worker's time for filling it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fill it again, with another share of the time if given."""
    change = {"paused": False} | ({} if share is None else {"share": share})
    message = "filled again within two seconds, with {share:.0%} of the workers' time"
    _set_fill("encoder.resume", name, change, message, as_json)


app.command()(compare)
app.command()(switch)
app.command()(drop)
app.command()(cancel)
app.command()(missing)


def _being_filled(encoders: "EncoderCommands") -> str:
    """Return the added encoder; after a switch, the active one."""
    from visual_memory.schemas.errors import NotFound

    try:
        return encoders.drop.added()
    except NotFound:
        active = encoders.records.active()
        if active is None:
            raise
        return active.name


def _with_rates(encoders: "EncoderCommands", name: str | None = None) -> list[dict[str, Any]]:
    """Return every encoder, or one, as JSON, with images per second and seconds left if it is being filled."""
    from visual_memory.schemas.errors import NotFound

    def load() -> "dict[str, EncoderStatus]":
        return {each.spec.name: each for each in encoders.show() if name in (None, each.spec.name)}

    first, begun = load(), time.monotonic()
    if name is not None and not first:
        raise NotFound(f"there is no encoder {name!r}: see 'visual-memory encoder list'")
    if not any(each.counts.left and not each.fill.paused and each.state != "dropping" for each in first.values()):
        return [_as_json(each, 0.0) for each in first.values()]
    while True:
        time.sleep(SAMPLE_SECONDS)
        second, seconds = load(), time.monotonic() - begun
        if seconds > MAX_SAMPLE_SECONDS or any(_done(each) != _done(first.get(name)) for name, each in second.items()):
            break
    return [_as_json(each, max(0, _done(each) - _done(first.get(name))) / seconds) for name, each in second.items()]


def _done(each: "EncoderStatus | None") -> int:
    return 0 if each is None else each.counts.filled + each.counts.failed


def _as_json(each: "EncoderStatus", rate: float) -> dict[str, Any]:
    left = each.counts.left
    seconds = None if not left or not rate else round(left / rate)
    return {**each.model_dump(mode="json"), "images_per_second": round(rate, 1), "seconds_left": seconds}


def _wait_until_filled(encoders: "EncoderCommands", name: str, *, quiet: bool) -> None:
    """Show the progress until no image is left; Ctrl-C ends only the waiting."""
    from visual_memory.services.cli.terminal_output import stage_bars

    filling = encoders.missing_vectors_of(encoders.records.get(name))
    with stage_bars(quiet=quiet) as report:
        while True:
            encoders.records.get(name)  # raises if it was dropped
            begun = time.monotonic()
            counts = filling.counts(None)
            done = counts.filled + counts.failed
            report("filled", done, done + counts.left)
            if not counts.left:
                return
            time.sleep(max(1.0, PAUSE_PER_COUNT * (time.monotonic() - begun)))


def _set_fill(action: str, name: str | None, change: dict[str, Any], message: str, as_json: bool) -> None:
    from visual_memory.schemas.encoder import FillSettings

    with exit_on_error(), encoder_commands(action) as encoders:
        named = name or _being_filled(encoders)
        encoders.records.get(named)
        fill = FillSettings.model_validate({**encoders.records.fill(named).model_dump(), **change})
        encoders.records.set_fill(named, fill)
    if as_json:
        print_json({"name": named, **fill.model_dump(mode="json")})
    else:
        typer.echo(f"{named}: {message.format(share=fill.share)}")


def _print_encoder(encoder: dict[str, Any]) -> None:
    """Print one encoder of `_with_rates`."""
    from visual_memory.services.cli.terminal_output import console

    spec, counts = encoder["spec"], encoder["counts"]
    total = counts["filled"] + counts["left"]
    state = f"{STATES[encoder['state']]}{', paused' * encoder['fill']['paused']}"
    details = f"{spec['dimension']} numbers, preprocessing {spec['preprocessing']}"
    console.print(f"{spec['name']}: {state} ({details})", markup=False, highlight=False, soft_wrap=True)
    console.print(f"  {counts['filled']} of {total} images have its vector, {counts['left']} are left")
    if counts["failed"] or counts["vectors_only"]:
        console.print(f"  {counts['failed']} could not be encoded, {counts['vectors_only']} came as vectors of another")
    if counts["left"] and not encoder["fill"]["paused"] and encoder["state"] != "dropping":
        rate = (
            f"{encoder['images_per_second']:g} a second, {_time_left(encoder['seconds_left'])}"
            if encoder["images_per_second"]
            else "none at the moment; if this persists, see the worker's log"
        )
        console.print(f"  filled with {encoder['fill']['share']:.0%} of the workers' time: {rate}")


def _time_left(seconds: int | None) -> str:
    if seconds is None:
        return ""
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    return f"{hours} h {minutes} min left" if hours else f"{minutes} min {seconds % 60} s left"
