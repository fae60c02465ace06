"""What is held of a subject is said whole: also what nobody has accepted yet."""

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.shape_pictures import picture
from tests.support.wired_service import Parts
from visual_memory.schemas.image import ImagePatch, State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.data_governance.export_subject import ExportSubject, ExportSummary
from visual_memory.services.removal.intake_contract import NoIntake, QueuedEntry, QueuedImage


class Waiting(NoIntake):
    """An intake in which entries of two subjects wait, and what is no event."""

    def up_to(self, tenant: str, _position: str) -> Iterator[Sequence[QueuedEntry]]:
        for subject in ("ann", "bob"):
            image = StoredImage(
                image_id=f"new-{subject}",
                labels=["x"],
                state=State.WAITING,
                accepted_at=now(),
                content_hash="",
                tenant=tenant,
                picture="",
                subject=subject,
            )
            yield [QueuedEntry(subject, "1-0", [QueuedImage(image, frozenset({"subject"}))])]
        yield [QueuedEntry("dead:1", "1-0", text="half of an event of Ann"), QueuedEntry("dead:2", "1-0", text="bob")]


def test_what_waits_in_the_intake_is_held_too(parts: Parts, tmp_path: Path) -> None:
    [own, other] = parts.teach(picture("disc"), picture("disc"), subject="ann")
    parts.curate(action="relabel", filter={"image_id": own}, labels=["dog"])
    parts.amend_image()(parts.tenant, other, ImagePatch(subject="bob"))
    stores = parts.stores()
    export = ExportSubject(parts.memory, stores.pictures, stores.decisions, stores.blocks, Waiting(), parts.database)
    assert export(parts.tenant, "ann", tmp_path / "held") == ExportSummary(1, 1, 0, 2, 2, refused=False)
    with zipfile.ZipFile(tmp_path / "held") as members:
        changes = [json.loads(line) for line in members.read("changes.jsonl").decode().splitlines()]
        lines = [json.loads(line) for line in members.read("waiting.jsonl").decode().splitlines()]
    assert [(line["image_id"], line["before"]) for line in changes] == [
        (other, {"subject": "ann"}),
        (own, {"labels": ["cat"]}),
    ]
    assert [line["entry"] for line in lines] == ["ann", "dead:1"]
    assert lines[0]["image_id"] == "new-ann"
