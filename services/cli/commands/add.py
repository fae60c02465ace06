"""Send labelled pictures or vectors, and print how many were remembered, refused and rejected."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import PARTIAL, exit_on_error
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Key, Url, connect, print_json

if TYPE_CHECKING:
    from visual_memory.services.client.import_pictures import ImportResult


def add(
    what: Annotated[
        Path, typer.Argument(help="FOLDER holding LABEL/*.jpg, a manifest (.csv, .jsonl), or vectors (.npy, .parquet).")
    ],
    source: Annotated[str | None, typer.Option(help="The source of all the images.")] = None,
    wait: Annotated[
        bool, typer.Option(help="Wait until all pictures are remembered or rejected; vectors are, once sent.")
    ] = True,
    encoder: Annotated[str | None, typer.Option(help="The encoder that made a file's vectors.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Labels of a .npy file's vectors: .txt, .csv or .jsonl.")] = None,
    label_rule: Annotated[
        str,
        typer.Option(help="For images already stored with other labels: keep those, replace them, or add to them."),
    ] = "keep",
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Teach: send pictures with labels from folder names or a manifest, or vectors with theirs."""
    from visual_memory.schemas.labels import LabelRule
    from visual_memory.services.cli.terminal_output import stage_bars
    from visual_memory.services.client.folders_and_manifests import is_vectors, read_pictures
    from visual_memory.services.client.import_pictures import teach

    if label_rule not in set(LabelRule):
        raise typer.BadParameter(f"--label-rule: {', '.join(LabelRule)}")
    rule, are_vectors = LabelRule(label_rule), is_vectors(what)
    if are_vectors and not wait:
        raise typer.BadParameter("--no-wait: vectors are remembered as they are sent; leave it out")
    if not are_vectors and labels is not None:
        raise typer.BadParameter("--labels is for vectors (.npy): pictures are labelled by their folders or a manifest")
    if not are_vectors and encoder is not None:
        raise typer.BadParameter("--encoder is for vectors (.npy, .parquet): the service encodes pictures itself")
    with exit_on_error(), connect(url, key) as client, stage_bars(quiet=as_json) as progress:
        if are_vectors:
            from visual_memory.services.client.import_vectors import teach_vectors

            outcome = teach_vectors(client, what, labels, encoder, source, progress, rule)
        else:
            outcome = teach(client, *read_pictures(what, source), progress, wait=wait, label_rule=rule)
    if as_json:
        print_json(outcome.as_dict())
    else:
        print_outcome(outcome)
    if outcome.refused or outcome.rejected:
        raise typer.Exit(PARTIAL)


def print_outcome(outcome: "ImportResult") -> None:
    """Print how many images were sent and remembered, and why others were refused or rejected."""
    from visual_memory.services.cli.terminal_output import MAX_LISTED, console

    console.print(f"{outcome.sent} sent, {outcome.remembered} remembered")
    if outcome.other_labels:
        console.print(f"  {outcome.other_labels} are stored with other labels, and keep them (see --label-rule)")
    for what, why in (("refused", outcome.refused), ("rejected", outcome.rejected)):
        for name, reason in list(why.items())[:MAX_LISTED]:
            console.print(f"  {what} {name}: {reason}", markup=False, highlight=False)
        if len(why) > MAX_LISTED:
            console.print(f"  ... and {len(why) - MAX_LISTED} more {what}")
