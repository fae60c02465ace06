"""Where pictures come from: a folder of folders, or a manifest."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from visual_memory.schemas.errors import InvalidRequest, VisualMemoryError, sentence
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.strict_json import read_json
from visual_memory.schemas.text_rules import sent_file_name
from visual_memory.services.decoding.file_formats.recognise_format import BMP, recognise_format

SUFFIXES = {
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".mpo", ".png", ".webp", ".avif", ".heic", ".heif", ".hif"),
    *(".bmp", ".gif", ".tif", ".tiff", ".jxl"),
}
"""Of files that are pictures whatever is in them, so that what is wrong with one is said; others by what they hold."""
BEGINNING = 1024
FIELDS = ("image_id", "file_name", "source", "subject", "captured_at", "expires_at")
COLUMNS = {"path", "labels", *FIELDS}
"""Of a manifest in CSV, beside ``metadata.NAME``; others are passed over."""


Line = tuple[str, Mapping[str, Any]]
"""Where it is, and what it says."""


@dataclass(frozen=True)
class PictureFile:
    """A picture's file with what is to be said of it."""

    path: Path
    fields: ImageFields


def read_pictures(where: Path, source: str | None) -> tuple[int, Iterator[PictureFile]]:
    """How many pictures a folder or manifest has, and each of them, read anew when its turn comes.

    All are read once before this returns, so that a mistake in the last is told before anything is done with the first.
    FOLDER/animal/cat/*.jpg has the label ``animal/cat``. A manifest has a column or field ``path`` (relative to the
    manifest) and those of `ImageFields`; in CSV ``labels`` are parted by ``|`` and metadata is ``metadata.NAME``. An
    empty cell says nothing.

    Raises:
        InvalidRequest: there is nothing to be found, or a line is not right; the message names it.
    """
    number = sum(1 for _ in _pictures(where, source))
    if not number:
        raise InvalidRequest(f"{where}: no pictures; expected {where}/LABEL/*.jpg, or lines in a manifest")
    return number, _pictures(where, source)


def _pictures(where: Path, source: str | None) -> Iterator[PictureFile]:
    if where.is_dir():
        yield from _folder(where, where, source)
    elif where.suffix == ".csv":
        yield from _manifest(where, source, _csv_lines(where))
    elif where.suffix == ".jsonl":
        yield from _manifest(where, source, _jsonl_lines(where))
    else:
        raise InvalidRequest(f"{where}: give a folder, or a manifest that ends in .csv or .jsonl")


def _folder(top: Path, folder: Path, source: str | None) -> Iterator[PictureFile]:
    """The pictures below a folder; those of one label share what is said of them. Links to folders are left alone."""
    fields: ImageFields | None = None
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if not path.is_symlink():
                yield from _folder(top, path, source)
        elif folder != top and is_picture(path):
            fields = fields or _labelled_by_folder(top, path, source)
            yield PictureFile(path, fields.of_file(sent_file_name(path.name)))


def picture_in_folder(top: Path, path: Path, source: str | None) -> PictureFile:
    """A picture below a folder, labelled as `read_pictures` labels those of the folder.

    Raises:
        InvalidRequest: it lies in the folder itself, so that it has no label, or its folder's name can be none.
    """
    if path.parent == top:
        raise InvalidRequest(f"it lies in no folder: put it into one of {top} that is named as its label")
    fields, name = _labelled_by_folder(top, path, source), sent_file_name(path.name)
    return PictureFile(path, fields if name is None else fields.model_copy(update={"file_name": name}))


def _labelled_by_folder(top: Path, path: Path, source: str | None) -> ImageFields:
    return fields_of(_with_source(source, {"labels": [path.parent.relative_to(top).as_posix()]}), str(path))


def is_picture(path: Path) -> bool:
    """Whether a file is one that people would call a picture: by its ending, else by its first bytes."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return recognise_format(file.read(BEGINNING)) is not BMP  # which begins with two letters, as a text may
    except (OSError, VisualMemoryError):
        return False


def is_vectors(file: Path) -> bool:
    """Whether a file is one of vectors, by its name."""
    return file.suffix in {".npy", ".parquet"}


def read_fields(where: Path, source: str | None) -> Iterator[ImageFields]:
    """What is to be said of each vector of a file, line by line.

    In .txt a line is a label; .csv and .jsonl are as manifests, without ``path``.

    Raises:
        InvalidRequest: it is of another kind, or a line is not right; the message names it.
    """
    for place, values in _KINDS[_kind_of(where)](where):
        yield fields_of(_with_source(source, values), place)


def count_fields(where: Path) -> int:
    """How many vectors a file speaks of."""
    return sum(1 for _ in _KINDS[_kind_of(where)](where))


def _kind_of(where: Path) -> str:
    if where.suffix not in _KINDS:
        raise InvalidRequest(f"{where}: labels come in a file that ends in {', '.join(_KINDS)}")
    return where.suffix


def _manifest(manifest: Path, source: str | None, lines: Iterator[Line]) -> Iterator[PictureFile]:
    for place, row in lines:
        path = _path(manifest, row, place)
        fields = fields_of(_with_source(source, {k: v for k, v in row.items() if k != "path"}), place)
        yield PictureFile(path, fields.of_file(sent_file_name(path.name)))


def _with_source(source: str | None, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is said of an image, and where it comes from, if that is said of all."""
    return values if source is None else {"source": source, **values}


def _txt_lines(where: Path) -> Iterator[Line]:
    with where.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            yield f"{where}, line {number}", {"labels": [line.strip()]}


def _csv_lines(manifest: Path) -> Iterator[Line]:
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        named = [name for name in rows.fieldnames or () if name]
        if twice := {name for name in named if named.count(name) > 1}:
            raise InvalidRequest(f"{manifest}: the column {min(twice)!r} is there twice")
        if meant := {name for name in named if name not in COLUMNS and name.strip().casefold() in COLUMNS}:
            raise InvalidRequest(f"{manifest}: the column {min(meant)!r} is spelt {min(meant).strip().casefold()!r}")
        for number, row in enumerate(rows, start=2):
            metadata = {
                name.removeprefix("metadata."): _value(text)
                for name, text in row.items()
                if name and name.startswith("metadata.") and text
            }
            fields = {name: row[name] for name in ("path", *FIELDS) if row.get(name)}
            labels = [label for label in (row.get("labels") or "").split("|") if label]
            said = {"metadata": metadata} if metadata else {}
            yield f"{manifest}, line {number}", {**fields, **said, "labels": labels}


def _jsonl_lines(manifest: Path) -> Iterator[Line]:
    with manifest.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{manifest}, line {number}"
            try:
                row = read_json(line)
            except ValueError as error:
                raise InvalidRequest(f"{place}: not JSON: {error}") from None
            except InvalidRequest as error:
                raise InvalidRequest(f"{place}: {error.message}") from None
            if not isinstance(row, dict):
                raise InvalidRequest(f"{place}: not an object")
            yield place, row


_KINDS: Mapping[str, Callable[[Path], Iterator[Line]]] = {
    ".txt": _txt_lines,
    ".csv": _csv_lines,
    ".jsonl": _jsonl_lines,
}


def _value(text: str) -> Any:
    """A number or truth value where a cell holds one, else its text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


def _path(manifest: Path, row: Mapping[str, Any], place: str) -> Path:
    if not isinstance(row.get("path"), str) or not row["path"]:
        raise InvalidRequest(f"{place}: no path of a picture")
    return manifest.parent / str(row["path"])


def fields_of(values: Mapping[str, Any], place: str) -> ImageFields:
    """What is said of an image.

    Raises:
        InvalidRequest: a value is not right; the message names the place and it.
    """
    try:
        return ImageFields.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        raise InvalidRequest(f"{place}: {sentence(fault['loc'], fault['msg'])}") from None
