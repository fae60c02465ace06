"""Read labelled pictures from a folder of folders or a manifest, and the fields of vectors from a file."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from visual_memory.schemas.errors import InvalidRequest, VisualMemoryError
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.strict_json import read_json
from visual_memory.schemas.text_rules import sent_file_name
from visual_memory.schemas.validation_faults import first_faults
from visual_memory.services.decoding.file_formats.recognise_format import BMP, recognise_format

SUFFIXES = {
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".mpo", ".png", ".webp", ".avif", ".heic", ".heif", ".hif"),
    *(".bmp", ".gif", ".tif", ".tiff", ".jxl"),
}
"""Files with these suffixes are sent whatever they contain, so that the service reports what is wrong with them."""
BEGINNING = 1024
FIELDS = ("image_id", "file_name", "source", "subject", "captured_at", "expires_at")
COLUMNS = {"path", "labels", *FIELDS}
"""Columns of a CSV manifest, in addition to ``metadata.NAME``; others are ignored."""


Line = tuple[str, Mapping[str, Any]]
"""Its position for messages, and its values."""


@dataclass(frozen=True)
class PictureFile:
    """A picture's file, and its fields."""

    path: Path
    fields: ImageFields


def read_pictures(where: Path, source: str | None) -> tuple[int, Iterator[PictureFile]]:
    """Count the pictures of a folder or manifest, and iterate over them.

    Every line is read once before this returns, so that an error in the last is raised before the first is sent.
    FOLDER/animal/cat/*.jpg has the label ``animal/cat``. A manifest has a column or field ``path``, relative to the
    manifest, and those of `ImageFields`. In CSV ``|`` separates labels, ``metadata.NAME`` is a metadata field, and an
    empty cell sets nothing.

    Raises:
        InvalidRequest: there are no pictures, or a line is invalid; the message names it.
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
    """The pictures below a folder; those of one label share their fields. Links to folders are not followed."""
    fields: ImageFields | None = None
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if not path.is_symlink():
                yield from _folder(top, path, source)
        elif folder != top and is_picture(path):
            fields = fields or _labelled_by_folder(top, path, source)
            yield PictureFile(path, fields.of_file(sent_file_name(path.name)))


def picture_in_folder(top: Path, path: Path, source: str | None) -> PictureFile:
    """A picture below a folder, with the label that `read_pictures` gives it.

    Raises:
        InvalidRequest: it is in `top` itself, so that it has no label, or the folder's name is no valid label.
    """
    if path.parent == top:
        raise InvalidRequest(f"it has no label: put it into a folder below {top} that is named as its label")
    fields, name = _labelled_by_folder(top, path, source), sent_file_name(path.name)
    return PictureFile(path, fields if name is None else fields.model_copy(update={"file_name": name}))


def _labelled_by_folder(top: Path, path: Path, source: str | None) -> ImageFields:
    return fields_of(_with_source(source, {"labels": [path.parent.relative_to(top).as_posix()]}), str(path))


def is_picture(path: Path) -> bool:
    """Whether a file is a picture, by its suffix or its first bytes."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return (
                recognise_format(file.read(BEGINNING)) is not BMP
            )  # its signature is two letters, with which a text may begin too
    except (OSError, VisualMemoryError):
        return False


def is_vectors(file: Path) -> bool:
    """Whether a file has vectors, by its suffix."""
    return file.suffix in {".npy", ".parquet"}


def read_fields(where: Path, source: str | None) -> Iterator[ImageFields]:
    """The fields of each vector of a file, line by line.

    In .txt a line is a label; .csv and .jsonl are as manifests, without ``path``.

    Raises:
        InvalidRequest: it is of another kind, or a line is not right; the message names it.
    """
    for position, values in _KINDS[_kind_of(where)](where):
        yield fields_of(_with_source(source, values), position)


def count_fields(where: Path) -> int:
    """The number of vectors that a file has fields for."""
    return sum(1 for _ in _KINDS[_kind_of(where)](where))


def _kind_of(where: Path) -> str:
    if where.suffix not in _KINDS:
        raise InvalidRequest(f"{where}: labels come in a file that ends in {', '.join(_KINDS)}")
    return where.suffix


def _manifest(manifest: Path, source: str | None, lines: Iterator[Line]) -> Iterator[PictureFile]:
    for position, row in lines:
        path = _path(manifest, row, position)
        fields = fields_of(_with_source(source, {k: v for k, v in row.items() if k != "path"}), position)
        yield PictureFile(path, fields.of_file(sent_file_name(path.name)))


def _with_source(source: str | None, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the source that all images have, if there is one."""
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
            raise InvalidRequest(f"{manifest}: the column {min(twice)!r} occurs twice")
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
            given = {"metadata": metadata} if metadata else {}
            yield f"{manifest}, line {number}", {**fields, **given, "labels": labels}


def _jsonl_lines(manifest: Path) -> Iterator[Line]:
    with manifest.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            position = f"{manifest}, line {number}"
            try:
                row = read_json(line)
            except ValueError as error:
                raise InvalidRequest(f"{position}: not JSON: {error}") from None
            except InvalidRequest as error:
                raise InvalidRequest(f"{position}: {error.message}") from None
            if not isinstance(row, dict):
                raise InvalidRequest(f"{position}: not an object")
            yield position, row


_KINDS: Mapping[str, Callable[[Path], Iterator[Line]]] = {
    ".txt": _txt_lines,
    ".csv": _csv_lines,
    ".jsonl": _jsonl_lines,
}


def _value(text: str) -> Any:
    """The number or boolean of a cell, otherwise its text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


def _path(manifest: Path, row: Mapping[str, Any], position: str) -> Path:
    if not isinstance(row.get("path"), str) or not row["path"]:
        raise InvalidRequest(f"{position}: no path of a picture")
    return manifest.parent / str(row["path"])


def fields_of(values: Mapping[str, Any], position: str) -> ImageFields:
    """Validate the fields of an image.

    Raises:
        InvalidRequest: a value is not right; the message names both.
    """
    try:
        return ImageFields.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest(f"{position}: {first_faults(error, 'fields', values)}") from None
