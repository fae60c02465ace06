"""Make the event that sends a picture file to the intake: CloudEvents 1.0 in JSON."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from urllib.parse import quote

from visual_memory.schemas.errors import InvalidRequest, TooLarge
from visual_memory.schemas.intake_event import IMAGE, MAX_PICTURE
from visual_memory.services.client.folders_and_manifests import PictureFile, picture_in_folder
from visual_memory.services.watched_folder.sent_files import Stamp

SOURCE = "/visual-memory/watch"
"""The `source` of the events. Their ids are the same wherever the same folder is watched."""


class FileChanged(Exception):
    """A file was changed or deleted while it was read."""


@dataclass(frozen=True)
class FileEvent:
    """An event, and the file that it sends.

    Attributes:
        label: of the picture.
        digest: the SHA-256 of the file's bytes.
        id: the same for the same picture, label and name, so that duplicates are recognised.
        event: the JSON.
    """

    label: str
    digest: str
    id: str
    event: bytes


@dataclass(frozen=True)
class PictureReferences:
    """URLs of pictures that are too large for an event.

    Attributes:
        base: the URL at which the service reads the watched folder; None: it does not.
        allows: whether the service accepts pictures from a URL.
        advice: how to change that.
    """

    base: str | None
    allows: Callable[[str], bool]
    advice: str

    def url(self, relative: Path, size: int) -> str:
        """Return the URL of a file in the folder.

        Raises:
            TooLarge: the service does not accept pictures from there; the message says what to do.
        """
        url = self.base and f"{self.base.rstrip('/')}/{quote(relative.as_posix())}"
        if not url or not self.allows(url):
            raise TooLarge(f"it has {size:,} bytes, and an event takes {MAX_PICTURE:,}: {self.advice}")
        return url


def make_event(folder: Path, path: Path, stamp: Stamp, source: str | None, references: PictureReferences) -> FileEvent:
    """Make the event that sends a file.

    Args:
        folder: the watched folder; its subfolders are named as labels.
        path: the file.
        stamp: of the file when it was complete.
        source: the source of all pictures in the folder.
        references: for pictures that are too large.

    Raises:
        Changed: the file has changed since.
        InvalidRequest, TooLarge: it cannot be sent; the message says why.
    """
    found = picture_in_folder(folder, path, source)
    picture, digest = _read(path, stamp)
    fields = found.fields.model_dump(mode="json", exclude_unset=True)
    if picture is None:
        content = {"dataref": references.url(path.relative_to(folder), stamp.size), "data": fields}
    else:
        content = {"data": {**fields, "picture": base64.b64encode(picture).decode()}}
    event_id = _id_of(found, digest)
    event = {"specversion": "1.0", "type": IMAGE, "source": SOURCE, "id": event_id, **content}
    [label] = found.fields.labels
    return FileEvent(label, digest, event_id, json.dumps(event, ensure_ascii=False).encode())


def _read(path: Path, stamp: Stamp) -> tuple[bytes | None, str]:
    """Return the bytes of a file, unless they are too large for an event, and their digest."""
    try:
        with path.open("rb") as file:
            if stamp.size > MAX_PICTURE:
                picture, digest = None, file_digest(file, "sha256").hexdigest()
            else:
                picture = file.read(MAX_PICTURE + 1)
                digest = sha256(picture).hexdigest()
        after = path.stat()
    except FileNotFoundError:
        raise FileChanged from None
    except OSError as error:
        raise InvalidRequest(f"it cannot be read: {error.strerror}") from None
    if stamp != Stamp(after.st_size, after.st_mtime_ns):
        raise FileChanged
    return picture, digest


def _id_of(found: PictureFile, digest: str) -> str:
    identity = json.dumps([digest, found.fields.labels, found.fields.file_name, found.fields.source])
    return sha256(identity.encode()).hexdigest()
