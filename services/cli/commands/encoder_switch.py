"""Switch to another encoder, drop one, and list images without its vector."""

from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import FAILED, exit_on_error
from visual_memory.services.cli.local_data import encoder_commands
from visual_memory.services.cli.shared_options import AsJson, Yes, print_json

if TYPE_CHECKING:
    from visual_memory.services.bootstrap.encoder_commands import EncoderCommands
    from visual_memory.services.encoder_migration.switch_encoder import SwitchResult
    from visual_memory.services.vector_engines.engine_contract import Compaction

PAGE = 500
MAX_LISTED = 10

EncoderName = Annotated[str, typer.Argument(metavar="NAME", help="The encoder, as 'encoder list' names it.")]
AddedName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="The encoder; may be omitted if only one was added.")
]


def switch(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The encoder to classify with.")] = None,
    back: Annotated[bool, typer.Option("--back", help="Switch back to the previous encoder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Classify with another encoder from the next request on, once every image has its vector."""
    from visual_memory.services.cli.terminal_output import stage_bars

    if (name is None) == (not back):
        raise typer.BadParameter("name an encoder, or say --back")
    with exit_on_error(), encoder_commands("encoder.switch") as encoders, stage_bars(quiet=as_json) as report:
        switched = encoders.switch(name, report) if name else encoders.switch.back(report)
        missing = _missing_images(encoders, switched.active.name, MAX_LISTED)
    _print_switched(switched, missing, as_json)


def drop(name: EncoderName, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete an encoder's vectors, index and all that was computed from them, also from the disk; keep the pictures."""
    with exit_on_error(), encoder_commands("encoder.drop") as encoders:
        counts = encoders.missing_vectors_of(encoders.records.get(name)).counts(None)
        if not as_json:
            _warn_of_vectors_only(encoders)
        _confirm(f"Delete {counts.filled} vectors of {name} for good?", yes=yes)
        done = encoders.drop(name)
        note = _drop_note(encoders, done)
    _print_dropped(name, done.erased, note, as_json)


def cancel(name: AddedName = None, yes: Yes = False, as_json: AsJson = False) -> None:
    """Undo the addition of an encoder: delete its vectors, also from the disk."""
    with exit_on_error(), encoder_commands("encoder.cancel") as encoders:
        named = name or encoders.drop.added()
        counts = encoders.missing_vectors_of(encoders.records.get(named)).counts(None)
        _confirm(f"Delete {counts.filled} vectors of {named} for good?", yes=yes)
        done = encoders.drop.cancel(named)
        note = _drop_note(encoders, done)
    _print_dropped(named, done.erased, note, as_json)


def missing(name: EncoderName, as_json: AsJson = False) -> None:
    """List every image that has no vector of an encoder, and why."""
    with exit_on_error(), encoder_commands() as encoders:
        for each in _missing_images(encoders, name):
            if as_json:
                print_json(each)
            else:
                typer.echo(f"{each['tenant']}  {each['image_id']}  {each['reason']}")


def _missing_images(encoders: "EncoderCommands", name: str, limit: int | None = None) -> list[dict[str, str]]:
    """List the images of all tenants without a vector of an encoder, at most `limit`."""
    spec = encoders.records.get(name)
    filling = encoders.missing_vectors_of(spec)
    found: list[dict[str, str]] = []
    for tenant in encoders.memory_of(spec).images.tenants():
        cursor: str | None = None
        while limit is None or len(found) < limit:
            images, cursor = filling.page_with_reasons(tenant, PAGE, cursor)
            found += [{"tenant": tenant, "image_id": image.image_id, "reason": reason} for image, reason in images]
            if cursor is None:
                break
    return found[:limit]


def _print_switched(switched: "SwitchResult", missing: list[dict[str, str]], as_json: bool) -> None:
    active, counts = switched.active, switched.counts
    without = counts.failed + counts.vectors_only
    if as_json:
        fields = {"active": active.model_dump(mode="json"), "counts": counts.model_dump(), "judged": [*switched.judged]}
        print_json({**fields, "not_voting": without, "first_missing": missing})
        return
    typer.echo(f"{active.name} classifies from the next request on; {counts.filled} images have its vector")
    if without:
        typer.echo(
            f"{without} images have no vote with it: {counts.vectors_only} came as vectors of another encoder (send"
            f" vectors of {active.name} for them), {counts.failed} could not be encoded"
        )
        for each in missing:
            typer.echo(f"  {each['tenant']}  {each['image_id']}  {each['reason']}")
        if without > len(missing):
            typer.echo(f"  ... all of them: visual-memory encoder missing {active.name}")
    typer.echo(
        f"{active.before} stays, and encodes new pictures too: 'visual-memory encoder switch --back' returns to it,"
        f" 'visual-memory encoder drop {active.before}' deletes it"
    )


def _warn_of_vectors_only(encoders: "EncoderCommands") -> None:
    """Warn of images that were sent as vectors, and have no picture to encode again."""
    active = encoders.records.active()
    if active and (number := encoders.missing_vectors_of(encoders.records.get(active.name)).counts(None).vectors_only):
        typer.echo(
            f"{number} images came as vectors of other encoders and have none of {active.name}, nor a picture to"
            " encode. Send vectors for them before the last other encoder is dropped:"
            f" 'visual-memory encoder missing {active.name}' lists them"
        )


def _drop_note(encoders: "EncoderCommands", done: "Compaction") -> str:
    """Return the note of the compaction, and a warning if the settings name the dropped encoder."""
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


def _print_dropped(name: str, erased: bool, note: str, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "erased": erased, "note": note})
    else:
        typer.echo(f"{name} is dropped" + (", and its bytes are erased from the disk" if erased else ""))
        typer.echo(note, nl=bool(note))
