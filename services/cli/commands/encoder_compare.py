"""Compare two encoders on the same memory, and print which is right more often and which answers change."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import PARTIAL, exit_on_error
from visual_memory.services.cli.local_data import local_settings
from visual_memory.services.cli.shared_options import AsJson, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.encoder_comparison import ChangedAnswer, Comparison, EncoderComparison, Estimate
    from visual_memory.services.client.folders_and_manifests import PictureFile
    from visual_memory.services.encoder_migration.compare_encoders import LabelledPictures


def compare(
    a: Annotated[
        str | None,
        typer.Argument(metavar="[A]", help="An encoder, as 'encoder list' names it; default: the active one."),
    ] = None,
    b: Annotated[
        str | None,
        typer.Argument(metavar="[B]", help="The encoder to compare with; default: the only other one."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Labelled pictures as further queries: FOLDER/LABEL/*.jpg, or a manifest.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="The tenant; default: the only one.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many neighbours vote.", min=1, max=100)] = 50,
    show: Annotated[int, typer.Option("--show", help="Changed answers to print of each kind; JSON: all.", min=0)] = 10,
    seed: Annotated[int, typer.Option(help="Seed of random samples.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare two encoders by leaving one image out: accuracy, calibration, novelty, and changed answers."""
    from visual_memory.schemas.evaluation_results import EvaluationOptions
    from visual_memory.services.bootstrap.encoder_commands import encoder_commands, labelled_pictures
    from visual_memory.services.cli.terminal_output import stage_bars
    from visual_memory.services.client.folders_and_manifests import read_pictures
    from visual_memory.services.encoder_migration.compare_encoders import CompareEncoders

    settings = local_settings()
    pictures, refused = None, dict[str, str]()
    with exit_on_error(), encoder_commands(settings) as encoders:
        queries = None if folder is None else read_pictures(folder, None)
        use = CompareEncoders(encoders.memory_of, encoders.records, settings.curate.max_images)
        both = use.choose(a, b)
        whose = use.tenant(both[0], tenant)
        with stage_bars(quiet=as_json) as report:
            if queries is not None:
                with labelled_pictures(settings, whose, both, encoders.memory_of) as pictures:
                    refused = _encode(pictures, *queries, report)
            found = use(whose, both, EvaluationOptions(k=k, seed=seed), report, pictures)
    if as_json:
        print_json({**found.model_dump(mode="json"), "refused": refused})
    else:
        _print_comparison(found, show)
    for name, reason in refused.items():
        typer.echo(f"refused {name}: {reason}", err=True)
    if refused:
        raise typer.Exit(PARTIAL)


def _encode(
    pictures: "LabelledPictures", number: int, found: "Iterator[PictureFile]", report: Callable[[str, int, int], None]
) -> dict[str, str]:
    """Encode pictures with their file names as image ids; return why some were refused, by file."""
    from visual_memory.schemas.errors import InvalidRequest
    from visual_memory.services.client.import_pictures import send

    refused: dict[str, str] = {}
    for _ in send(pictures.add, _with_file_as_id(found), lambda done: report("encoded", done, number), refused):
        pass
    if not pictures.labels:
        raise InvalidRequest(f"no picture could be encoded: {next(iter(refused.values()))}")
    return refused


def _with_file_as_id(found: "Iterator[PictureFile]") -> "Iterator[PictureFile]":
    from dataclasses import replace

    for each in found:
        yield replace(each, fields=each.fields.model_copy(update={"image_id": str(each.path)}))


def _print_comparison(found: "EncoderComparison", max_changes: int) -> None:
    """Print a verdict, a table and the changed answers, for the memory and for the folder."""
    typer.echo(f"A: {found.a}\nB: {found.b}")
    if found.drawn is not None:
        typer.echo(f"{found.drawn} of the {found.voting} images that vote, drawn at random (seed {found.seed})")
    for name, lacking in found.lacking.items():
        if lacking:
            typer.echo(f"{lacking} images have no vector of {name}, and are excluded from both")
    typer.echo()
    _print_part("The memory itself, each image classified by the others", found.itself, max_changes)
    if found.folder is not None:
        _print_part("The pictures of the folder", found.folder, max_changes)
        if found.known:
            typer.echo(f"{found.known} of the pictures are in the memory, and find themselves: this flatters both")


def _print_part(title: str, found: "Comparison", max_changes: int) -> None:
    from rich.table import Column, Table

    from visual_memory.services.cli.terminal_output import console

    typer.echo(f"{title}: {verdict(found.difference)}.")
    queries = Column(f"{found.queries} queries, {found.images} images", no_wrap=True)
    table = Table(queries, "A", "B", box=None, padding=(0, 2))
    rows: Sequence[tuple[str, str, str]] = (
        (f"right by the vote of {found.k}", _percent(found.a.accuracy), _percent(found.b.accuracy)),
        ("calibration error of the shares", _number(found.a.ece), _number(found.b.ece)),
        ("  with a fitted temperature", _number(found.a.calibrated_ece), _number(found.b.calibrated_ece)),
        ("detection of new classes (AUROC)", _number(found.a.novelty_auroc), _number(found.b.novelty_auroc)),
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)
    _print_changes("wrong by A, right by B", found.gained, max_changes)
    _print_changes("right by A, wrong by B", found.lost, max_changes)
    _print_changes("wrong by both, with other answers", found.swapped, max_changes)
    typer.echo()


def _print_changes(title: str, changes: "Sequence[ChangedAnswer]", max_changes: int) -> None:
    typer.echo(f"{len(changes)} {title}")
    for each in changes[:max_changes]:
        typer.echo(f"  {each.image_id} ({', '.join(each.labels)}): {each.a} -> {each.b}")
    if len(changes) > max_changes > 0:
        typer.echo(f"  ... and {len(changes) - max_changes} more; --json has all")


def verdict(difference: "Estimate") -> str:
    """Say which encoder is right more often, without a full stop."""
    low, value, high = (100 * each for each in (difference.low, difference.value, difference.high))
    if low > 0:
        return f"B is right for {value:.1f} points more [{low:.1f}, {high:.1f}]"
    if high < 0:
        return f"A is right for {-value:.1f} points more [{-high:.1f}, {-low:.1f}]"
    return f"no significant difference (B - A: {value:+.1f} points [{low:.1f}, {high:.1f}])"


def _percent(found: "Estimate") -> str:
    return f"{found.value:.1%} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
