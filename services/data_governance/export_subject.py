"""Export what is stored about a subject: images, pictures, decisions, changes, and entries of the intake."""

import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visual_memory.schemas.errors import NotFound
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause, Filter
from visual_memory.schemas.image import StoredImage, has_picture
from visual_memory.schemas.moments import now
from visual_memory.services.changes.changes_about_subject import changes_about_subject
from visual_memory.services.decisions.stored_decisions import StoredDecisions
from visual_memory.services.decoding.file_formats.recognise_format import media_type
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_payload import AMENDABLE
from visual_memory.services.removal.blocklist import Blocklist
from visual_memory.services.removal.intake_contract import IntakeQueue
from visual_memory.services.removal.values_named_in_filters import may_cover_text

PAGE = 100
README = """What the service stores about one subject, at one moment.

held.json        the subject, the moment, how much there is, and whether the subject is blocked
images.jsonl     one image per line, with all its stored fields
pictures/        their pictures as they were sent; the names are image ids
changes.jsonl    former fields of these images, and of images that had this subject before
decisions.jsonl  stored decisions in which the images voted, or whose filter names the subject
waiting.jsonl    entries of the intake about the subject, waiting ones and dead letters, without their pictures
"""


@dataclass(frozen=True)
class ExportSummary:
    """What an export contains.

    Attributes:
        changes: the number of records of former fields.
        waiting: the number of intake entries about the subject, or that cannot be parsed and contain its name.
        refused: whether the subject is blocked.
    """

    images: int
    pictures: int
    decisions: int
    changes: int
    waiting: int
    refused: bool


@dataclass(frozen=True)
class ExportSubject:
    """Exports subjects."""

    memory: Memory
    pictures: PictureStore
    decisions: StoredDecisions
    blocks: Blocklist
    intake: IntakeQueue
    database: Database

    def __call__(self, tenant: str, subject: str, file: Path) -> ExportSummary:
        """Write what is stored about a subject into a new zip file, readable by this user alone.

        Raises:
            FileExistsError: the file exists already.
            Unavailable: a component does not answer.
        """
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(handle, "wb") as out, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as members:
                return self._write(members, tenant, subject)
        except BaseException:
            file.unlink()
            raise

    def _write(self, members: zipfile.ZipFile, tenant: str, subject: str) -> ExportSummary:
        members.writestr("README.txt", README)
        ids, lines, pictures = list[str](), list[str](), 0
        clauses = [Clause("subject", FieldType.KEYWORD, (subject,))]
        for page in self.memory.images.pages(tenant, clauses, PAGE):
            ids += [image.image_id for image in page]
            lines += [image.model_dump_json() for image in page]
            for name, data in self._pictures(page):
                members.writestr(name, data)
                pictures += 1
        members.writestr("images.jsonl", "\n".join(lines))
        decisions = [each.model_dump_json() for each in self.decisions.mentioning(tenant, ids, [subject])]
        members.writestr("decisions.jsonl", "\n".join(decisions))
        changes = [
            json.dumps(each, ensure_ascii=False) for each in changes_about_subject(self.database, tenant, subject, ids)
        ]
        members.writestr("changes.jsonl", "\n".join(changes))
        waiting = [json.dumps(fields, ensure_ascii=False) for fields in self._waiting(tenant, subject)]
        members.writestr("waiting.jsonl", "\n".join(waiting))
        refused = self.blocks.is_subject_blocked(tenant, subject)
        summary = ExportSummary(len(ids), pictures, len(decisions), len(changes), len(waiting), refused)
        fields: dict[str, Any] = {"tenant": tenant, "subject": subject, "at": now().isoformat(), **vars(summary)}
        members.writestr("held.json", json.dumps(fields, ensure_ascii=False, indent=2))
        return summary

    def _waiting(self, tenant: str, subject: str) -> Iterator[dict[str, Any]]:
        """The intake's entries about a subject. It is read without its lease: an accepted image may be listed twice."""
        named = Filter({"subject": subject})
        for page in self.intake.up_to(tenant, self.intake.last_position(tenant)):
            for entry in page:
                if entry.text is not None and may_cover_text(named, entry.text):
                    yield {"entry": entry.key, "text": entry.text}
                for each in entry.images:
                    if each.image.subject == subject:
                        fields = each.image.model_dump(mode="json", include={"image_id", *AMENDABLE})
                        yield {"entry": entry.key, **fields}

    def _pictures(self, page: Sequence[StoredImage]) -> Iterator[tuple[str, bytes]]:
        for image in page:
            if has_picture(image.picture):
                try:
                    data = self.pictures.read(image.picture)
                except NotFound:  # it is being removed
                    continue
                yield f"pictures/{image.image_id}.{media_type(data).rpartition('/')[2]}", data
