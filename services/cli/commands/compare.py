"""Compare two encoders of the memory: which one answers better, by how much, and whose answers change."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.shared_options import PARTLY, AsJson, errors, own_data, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.encoder_comparison import ChangedAnswer, Comparison, EncoderComparison, Estimate
    from visual_memory.services.client.folders_and_manifests import Found
    from visual_memory.services.encoder_migration.compare_encoders import LabelledPictures


def compare(
    a: Annotated[
        str | None,
        typer.Argument(
            metavar="[A]", help="An encoder, as 'encoder list' names it; left out, the one that classifies."
        ),
    ] = None,
    b: Annotated[
        str | None,
        typer.Argument(metavar="[B]", help="The encoder that it is compared with; left out, the only other one."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Labelled pictures to ask about too: FOLDER/LABEL/*.jpg, or a manifest.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose memory; left out, that of the only tenant.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many neighbours vote.", min=1, max=100)] = 50,
    most: Annotated[int, typer.Option("--show", help="Most changed answers of each kind; JSON has all.", min=0)] = 10,
    seed: Annotated[int, typer.Option(help="Of all that is drawn at random.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Ask the memory about itself by two encoders: accuracy, calibration, novelty, and whose answers change."""
    from visual_memory.schemas.evaluation_results import EvaluationOptions
    from visual_memory.services.bootstrap.encoder_commands import encoder_commands, labelled_pictures
    from visual_memory.services.cli import tables
    from visual_memory.services.client.folders_and_manifests import read_pictures
    from visual_memory.services.encoder_migration.compare_encoders import CompareEncoders

    settings = own_data()
    pictures, refused = None, dict[str, str]()
    with errors(), encoder_commands(settings) as encoders:
        asked = None if folder is None else read_pictures(folder, None)
        use = CompareEncoders(encoders.memory_of, encoders.records, settings.curate.most_images)
        both = use.choose(a, b)
        whose = use.tenant(both[0], tenant)
        with tables.stages(quiet=as_json) as tell:
            if asked is not None:
                with labelled_pictures(settings, whose, both, encoders.memory_of) as pictures:
                    refused = _encode(pictures, *asked, tell)
            found = use(whose, both, EvaluationOptions(k=k, seed=seed), tell, pictures)
    if as_json:
        print_json({**found.model_dump(mode="json"), "refused": refused})
    else:
        _show(found, most)
    for name, reason in refused.items():
        typer.echo(f"refused {name}: {reason}", err=True)
    if refused:
        raise typer.Exit(PARTLY)


def _encode(
    pictures: "LabelledPictures", number: int, found: "Iterator[Found]", tell: Callable[[str, int, int], None]
) -> dict[str, str]:
    """Encode so many pictures, each called by its file; why some were refused, by their files."""
    from visual_memory.schemas.errors import InvalidRequest
    from visual_memory.services.client.import_pictures import send

    refused: dict[str, str] = {}
    for _ in send(pictures.add, _by_file(found), lambda done: tell("encoded", done, number), refused):
        pass
    if not pictures.labels:
        raise InvalidRequest(f"no picture could be asked about: {next(iter(refused.values()))}")
    return refused


def _by_file(found: "Iterator[Found]") -> "Iterator[Found]":
    from dataclasses import replace

    for each in found:
        yield replace(each, fields=each.fields.model_copy(update={"image_id": str(each.path)}))


def _show(found: "EncoderComparison", most: int) -> None:
    """What was found: a sentence and a table for each that was asked, and whose answers change."""
    typer.echo(f"A: {found.a}\nB: {found.b}")
    if found.drawn is not None:
        typer.echo(f"{found.drawn} of the {found.voting} images that vote, drawn at random (seed {found.seed})")
    for name, lacking in found.lacking.items():
        if lacking:
            typer.echo(f"{lacking} images have no vector of {name}, and are left out of both")
    typer.echo()
    _show_one("The memory itself, each image asked of the others", found.itself, most)
    if found.folder is not None:
        _show_one("The pictures of the folder", found.folder, most)
        if found.known:
            typer.echo(f"{found.known} of the pictures are remembered, and find themselves: this flatters both")


def _show_one(title: str, found: "Comparison", most: int) -> None:
    from rich.table import Column, Table

    from visual_memory.services.cli.tables import console

    typer.echo(f"{title}: {verdict(found.difference)}.")
    asked = Column(f"{found.queries} asked, {found.images} images", no_wrap=True)
    table = Table(asked, "A", "B", box=None, padding=(0, 2))
    rows: Sequence[tuple[str, str, str]] = (
        (f"right by the vote of {found.k}", _percent(found.a.accuracy), _percent(found.b.accuracy)),
        ("calibration error of the shares", _number(found.a.ece), _number(found.b.ece)),
        ("  with a fitted temperature", _number(found.a.calibrated_ece), _number(found.b.calibrated_ece)),
        ("new classes told apart (AUROC)", _number(found.a.novelty_auroc), _number(found.b.novelty_auroc)),
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)
    _show_changes("wrong by A, right by B", found.gained, most)
    _show_changes("right by A, wrong by B", found.lost, most)
    _show_changes("wrong by both, with other answers", found.swapped, most)
    typer.echo()


def _show_changes(title: str, changes: "Sequence[ChangedAnswer]", most: int) -> None:
    typer.echo(f"{len(changes)} {title}")
    for each in changes[:most]:
        typer.echo(f"  {each.image_id} ({', '.join(each.labels)}): {each.a} -> {each.b}")
    if len(changes) > most > 0:
        typer.echo(f"  ... and {len(changes) - most} more; --json has all")


def verdict(difference: "Estimate") -> str:
    """Which encoder is right more often, in a sentence without its full stop."""
    low, value, high = (100 * each for each in (difference.low, difference.value, difference.high))
    if low > 0:
        return f"B is right for {value:.1f} points more [{low:.1f}, {high:.1f}]"
    if high < 0:
        return f"A is right for {-value:.1f} points more [{-high:.1f}, {-low:.1f}]"
    return f"no difference can be told (B less A: {value:+.1f} points [{low:.1f}, {high:.1f}])"


def _percent(found: "Estimate") -> str:
    return f"{found.value:.1%} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
