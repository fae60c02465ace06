"""The demo: the whole product on real pictures, in a few minutes, with nothing left running at the end."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from visual_memory.schemas.classify_options import ClassifyOptions, Effort, Vote
from visual_memory.schemas.decision import Decision
from visual_memory.schemas.errors import Blocked, InvalidRequest
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.cli import tables
from visual_memory.services.cli.commands.await_receipt import wait_for_receipt
from visual_memory.services.cli.temporary_service import own_service
from visual_memory.services.client.folders_and_manifests import Found, read_pictures
from visual_memory.services.client.http_client import Client
from visual_memory.services.client.import_pictures import teach
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import first_groups

KS = (1, 5, 10, 20, 50, 100)
DIGITS_IN_MEMORY = 1200
PICTURES_PER_REQUEST = 32
SUBJECTS = 40
FEWEST = 6
MOST_ASKED_AGAIN = 100
console = Console()


@dataclass(frozen=True)
class Material:
    """Pictures to teach and pictures to ask about."""

    memory: Sequence[Found]
    queries: Sequence[Found]
    new_class: str


def run(data: Path | None) -> None:
    """Run the demo on a folder of one's own, or on handwritten digits."""
    with tempfile.TemporaryDirectory(prefix="visual-memory-demo-") as temporary:
        folder = Path(temporary)
        material = _split(read_pictures(data, None)[1]) if data else _digits(folder / "digits")
        with own_service(folder / "data") as client:
            _tell(client, material)
    console.print(NEXT.strip(), markup=False, highlight=False)


def _tell(client: Client, material: Material) -> None:
    new = material.new_class
    known = [found for found in material.memory if _label(found) != new]
    later = [found for found in material.memory if _label(found) == new]

    console.rule("1. Teach by showing")
    console.print(f"{len(known)} pictures go through the API and the queue; class {new} is left out")
    _teach(client, known)

    console.rule("2. Ask")
    console.print("accuracy by vote and by the number k of neighbours, on the classes that are known (exact search)")
    decisions = _ask(client, material.queries)
    _show_accuracy(material, decisions, new=False)
    before = _accuracy(material, decisions, new=True)

    console.rule(f"3. Teach class {new}")
    console.print(f"{len(later)} pictures; nothing is trained")
    _teach(client, later)
    decisions = _ask(client, material.queries)
    after = _accuracy(material, decisions, new=True)
    console.print(f"queries of class {new}: {before:.1%} right before, {after:.1%} after; all classes now:")
    _show_accuracy(material, decisions, new=None)

    console.rule("4. Forget by asking")
    _forget(client, material, decisions)


def _teach(client: Client, found: Sequence[Found]) -> None:
    with tables.progress(quiet=False) as progress:
        outcome = teach(client, len(found), found, progress, wait=True)
    tables.outcome(outcome)


def _ask(client: Client, queries: Sequence[Found]) -> list[Decision]:
    """Each query's decision with its 100 nearest neighbours, found by exact search."""
    options = ClassifyOptions(k=max(KS), search=Effort.EXACT)
    decisions: list[Decision] = []
    with tables.progress(quiet=False) as progress:
        task = progress.add_task("classified", total=len(queries))
        for start in range(0, len(queries), PICTURES_PER_REQUEST):
            pictures = [found.path.read_bytes() for found in queries[start : start + PICTURES_PER_REQUEST]]
            decisions += client.classify(pictures, options).decisions
            progress.update(task, completed=len(decisions))
    return decisions


def _show_accuracy(material: Material, decisions: Sequence[Decision], *, new: bool | None) -> None:
    """Accuracy of every vote at every k, each recounted from the neighbours that the decisions show."""
    table = Table("vote", *(f"k = {k}" for k in KS))
    for vote in (Vote.PLURALITY, Vote.DISTANCE, Vote.SOFTMAX, Vote.RANK):
        table.add_row(vote, *(f"{_accuracy(material, decisions, vote, k, new=new):.1%}" for k in KS))
    console.print(table)


def _accuracy(
    material: Material, decisions: Sequence[Decision], vote: Vote = Vote.RANK, k: int = 50, *, new: bool | None
) -> float:
    """The part of the queries that get their label: of the new class, of the others, or (None) of all."""
    right = [
        _recount(decision, vote, k) == _label(found)
        for found, decision in zip(material.queries, decisions, strict=True)
        if new is None or (_label(found) == material.new_class) is new
    ]
    return sum(right) / len(right)


def _recount(decision: Decision, vote: Vote, k: int) -> str | None:
    return decide(
        first_groups(decision.neighbours, k)[0], ClassifyOptions(k=k, vote=vote, show=0), decision.encoder
    ).label


def _forget(client: Client, material: Material, decisions: Sequence[Decision]) -> None:
    subject = material.memory[0].fields.subject
    assert subject is not None
    where = Filter({"subject": subject})
    gone = {image.image_id for image in client.images(where)}
    console.print(
        f"{subject} asks to be forgotten: {len(gone)} pictures, which cast {_votes_of(gone, decisions)} votes above"
    )
    request = RemovalRequest(filter=where, reason="the demo's subject asked for it", block=True)
    tables.preview(client.preview(request))
    tables.receipt(wait_for_receipt(client, client.remove(request)))
    affected = [found for found, each in zip(material.queries, decisions, strict=True) if _votes_of(gone, [each])][
        :MOST_ASKED_AGAIN
    ]
    votes, left = _votes_of(gone, _ask(client, affected)), len(list(client.images(where)))
    console.print(f"of {len(affected)} queries in which they had a vote, asked again: {votes} votes; {left} are listed")
    try:
        taught = material.memory[0]
        client.add([(taught.path.read_bytes(), taught.fields)])
        console.print("sent again: accepted (this is wrong)")
    except Blocked as error:
        console.print(f"sent again: refused, {error.message}", markup=False)


def _votes_of(image_ids: set[str], decisions: Sequence[Decision]) -> int:
    return sum(each.image_id in image_ids for decision in decisions for each in decision.neighbours)


def _digits(folder: Path) -> Material:
    """scikit-learn's 1,797 handwritten digits as PNG pictures: the first 1,200 to teach, the others to ask about."""
    import PIL.Image
    from sklearn.datasets import load_digits

    folder.mkdir()
    digits = load_digits()
    found = []
    for number, (values, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / f"{number:04d}.png"
        PIL.Image.fromarray(255 - (values * 15.9).astype("uint8")).save(path)  # dark ink on white paper
        found.append(Found(path, ImageFields(labels=[str(digit)], image_id=f"digit-{number:04d}")))
    memory = _with_subjects(found[:DIGITS_IN_MEMORY])
    return Material(memory, found[DIGITS_IN_MEMORY:], new_class="9")


def _split(found: Iterable[Found]) -> Material:
    """Of each class every third picture to ask about, the others to teach; the last class comes later."""
    by_class: dict[str, list[Found]] = {}
    for each in found:
        by_class.setdefault(_label(each), []).append(each)
    thin = sorted(label for label, members in by_class.items() if len(members) < FEWEST)
    if len(by_class) < 2 or thin:
        raise InvalidRequest(f"the demo needs two classes or more, each of {FEWEST} pictures or more; too thin: {thin}")
    memory = [each for members in by_class.values() for place, each in enumerate(members) if place % 3]
    queries = [each for members in by_class.values() for each in members[::3]]
    return Material(_with_subjects(memory), queries, new_class=max(by_class))


def _with_subjects(found: Sequence[Found]) -> list[Found]:
    """Spread made-up subjects over the pictures, so that there is someone to forget."""
    return [
        replace(each, fields=each.fields.model_copy(update={"subject": f"person-{place % SUBJECTS:02d}"}))
        for place, each in enumerate(found)
    ]


def _label(found: Found) -> str:
    return found.fields.labels[0]


NEXT = """
Now your own pictures:
  make demo DATA=FOLDER                      the same with FOLDER/LABEL/*.jpg
  .venv/bin/visual-memory up                 start it; export the key it shows
  .venv/bin/visual-memory add FOLDER         teach
  .venv/bin/visual-memory classify PICTURE   ask
  .venv/bin/visual-memory remove --subject NAME --reason WHY   forget
"""
