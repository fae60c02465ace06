"""The demo: teach, classify and forget real pictures with a temporary service, in a few minutes."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from visual_memory.schemas.classify_options import ClassifyOptions, Effort, Vote
from visual_memory.schemas.decision import Decision
from visual_memory.schemas.errors import Blocked, InvalidRequest
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.cli.commands.add import print_outcome
from visual_memory.services.cli.removal_with_receipt import print_preview, print_receipt, wait_for_receipt
from visual_memory.services.cli.temporary_service import temporary_service
from visual_memory.services.cli.terminal_output import console, progress_bar, stage_bars
from visual_memory.services.client.folders_and_manifests import PictureFile, read_pictures
from visual_memory.services.client.http_client import Client
from visual_memory.services.client.import_pictures import teach
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import first_groups

KS = (1, 5, 10, 20, 50, 100)
DIGITS_IN_MEMORY = 1200
PICTURES_PER_REQUEST = 32
SUBJECTS = 40
MIN_PER_CLASS = 6
MAX_ASKED_AGAIN = 100


@dataclass(frozen=True)
class DemoPictures:
    """Pictures to teach, and pictures to classify."""

    memory: Sequence[PictureFile]
    queries: Sequence[PictureFile]
    new_class: str


def run(data: Path | None) -> None:
    """Run the demo on the folders of labelled pictures in `data`, or on handwritten digits."""
    with tempfile.TemporaryDirectory(prefix="visual-memory-demo-") as temporary:
        folder = Path(temporary)
        pictures = _split(read_pictures(data, None)[1]) if data else _digits(folder / "digits")
        with temporary_service(folder / "data") as client:
            _run_steps(client, pictures)
    console.print(NEXT.strip(), markup=False, highlight=False)


def _run_steps(client: Client, pictures: DemoPictures) -> None:
    new = pictures.new_class
    known = [found for found in pictures.memory if _label(found) != new]
    later = [found for found in pictures.memory if _label(found) == new]

    console.rule("1. Teach by showing")
    console.print(f"{len(known)} pictures are sent through the API and the queue, without class {new}")
    _teach(client, known)

    console.rule("2. Ask")
    console.print("accuracy by vote and by the number k of neighbours, on the known classes (exact search)")
    decisions = _ask(client, pictures.queries)
    _show_accuracy(pictures, decisions, new=False)
    before = _accuracy(pictures, decisions, new=True)

    console.rule(f"3. Teach class {new}")
    console.print(f"{len(later)} pictures; nothing is trained")
    _teach(client, later)
    decisions = _ask(client, pictures.queries)
    after = _accuracy(pictures, decisions, new=True)
    console.print(f"queries of class {new}: {before:.1%} right before, {after:.1%} after; all classes now:")
    _show_accuracy(pictures, decisions, new=None)

    console.rule("4. Forget by asking")
    _forget(client, pictures, decisions)


def _teach(client: Client, found: Sequence[PictureFile]) -> None:
    with stage_bars(quiet=False) as progress:
        outcome = teach(client, len(found), found, progress, wait=True)
    print_outcome(outcome)


def _ask(client: Client, queries: Sequence[PictureFile]) -> list[Decision]:
    """Classify each query with its 100 nearest neighbours, by exact search."""
    options = ClassifyOptions(k=max(KS), effort=Effort.EXACT)
    decisions: list[Decision] = []
    with progress_bar(quiet=False) as progress:
        task = progress.add_task("classified", total=len(queries))
        for start in range(0, len(queries), PICTURES_PER_REQUEST):
            pictures = [found.path.read_bytes() for found in queries[start : start + PICTURES_PER_REQUEST]]
            decisions += client.classify(pictures, options).decisions
            progress.update(task, completed=len(decisions))
    return decisions


def _show_accuracy(pictures: DemoPictures, decisions: Sequence[Decision], *, new: bool | None) -> None:
    """Print the accuracy of every vote at every k, recounted from the neighbours of the decisions."""
    table = Table("vote", *(f"k = {k}" for k in KS))
    for vote in (Vote.PLURALITY, Vote.DISTANCE, Vote.SOFTMAX, Vote.RANK):
        table.add_row(vote, *(f"{_accuracy(pictures, decisions, vote, k, new=new):.1%}" for k in KS))
    console.print(table)


def _accuracy(
    pictures: DemoPictures, decisions: Sequence[Decision], vote: Vote = Vote.RANK, k: int = 50, *, new: bool | None
) -> float:
    """Return the share of right labels among the queries of the new class, of the others, or (None) of all."""
    right = [
        _recount(decision, vote, k) == _label(found)
        for found, decision in zip(pictures.queries, decisions, strict=True)
        if new is None or (_label(found) == pictures.new_class) is new
    ]
    return sum(right) / len(right)


def _recount(decision: Decision, vote: Vote, k: int) -> str | None:
    return decide(
        first_groups(decision.neighbours, k)[0], ClassifyOptions(k=k, vote=vote, show=0), decision.encoder
    ).label


def _forget(client: Client, pictures: DemoPictures, decisions: Sequence[Decision]) -> None:
    subject = pictures.memory[0].fields.subject
    assert subject is not None
    where = Filter({"subject": subject})
    removed = {image.image_id for image in client.iterate(client.images, where)}
    console.print(
        f"{subject} asks to be forgotten: {len(removed)} pictures, with {_votes_of(removed, decisions)} votes above"
    )
    request = RemovalRequest(filter=where, reason="the demo's subject requested it", block=True)
    print_preview(client.preview_removal(request))
    print_receipt(wait_for_receipt(client, client.remove(request, wait_seconds=0)))
    affected = [found for found, each in zip(pictures.queries, decisions, strict=True) if _votes_of(removed, [each])][
        :MAX_ASKED_AGAIN
    ]
    votes, left = _votes_of(removed, _ask(client, affected)), len(list(client.iterate(client.images, where)))
    console.print(
        f"of {len(affected)} queries in which they had a vote, classified again: {votes} votes; {left} are listed"
    )
    try:
        taught = pictures.memory[0]
        client.add([(taught.path.read_bytes(), taught.fields)])
        console.print("sent again: accepted (this is wrong)")
    except Blocked as error:
        console.print(f"sent again: refused, {error.message}", markup=False)


def _votes_of(image_ids: set[str], decisions: Sequence[Decision]) -> int:
    return sum(each.image_id in image_ids for decision in decisions for each in decision.neighbours)


def _digits(folder: Path) -> DemoPictures:
    """Write scikit-learn's 1,797 handwritten digits as PNG pictures: 1,200 to teach, the others to classify."""
    import PIL.Image
    from sklearn.datasets import load_digits

    folder.mkdir()
    digits = load_digits()
    found = []
    for number, (values, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / f"{number:04d}.png"
        PIL.Image.fromarray(255 - (values * 15.9).astype("uint8")).save(path)  # dark ink on white paper
        found.append(PictureFile(path, ImageFields(labels=[str(digit)], image_id=f"digit-{number:04d}")))
    memory = _with_subjects(found[:DIGITS_IN_MEMORY])
    return DemoPictures(memory, found[DIGITS_IN_MEMORY:], new_class="9")


def _split(found: Iterable[PictureFile]) -> DemoPictures:
    """Split each class: every third picture to classify, the others to teach; the last class is the new one."""
    by_class: dict[str, list[PictureFile]] = {}
    for each in found:
        by_class.setdefault(_label(each), []).append(each)
    small = sorted(label for label, members in by_class.items() if len(members) < MIN_PER_CLASS)
    if len(by_class) < 2 or small:
        raise InvalidRequest(
            f"the demo needs two classes or more, each of {MIN_PER_CLASS} pictures or more; too small: {small}"
        )
    memory = [each for members in by_class.values() for index, each in enumerate(members) if index % 3]
    queries = [each for members in by_class.values() for each in members[::3]]
    return DemoPictures(_with_subjects(memory), queries, new_class=max(by_class))


def _with_subjects(found: Sequence[PictureFile]) -> list[PictureFile]:
    """Assign invented subjects to the pictures, so that one can be forgotten."""
    return [
        replace(each, fields=each.fields.model_copy(update={"subject": f"person-{index % SUBJECTS:02d}"}))
        for index, each in enumerate(found)
    ]


def _label(found: PictureFile) -> str:
    return found.fields.labels[0]


NEXT = """
Now your own pictures:
  make demo DATA=FOLDER                      the same with FOLDER/LABEL/*.jpg
  .venv/bin/visual-memory up                 start it; export the key it shows
  .venv/bin/visual-memory add FOLDER         teach
  .venv/bin/visual-memory classify PICTURE   ask
  .venv/bin/visual-memory remove --subject NAME --reason WHY   forget
"""
