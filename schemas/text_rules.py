"""Rules for text, labels, ids and metadata, the same in every interface.

Text is normalised to Unicode's NFC, without white space at its ends, so that two ways to write "José" are one subject.
Letters that look alike, or are wide, are not changed. Invisible characters are refused, because two subjects could look
the same with them.
"""

import re
import unicodedata
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat, StrictBool, StrictInt

from visual_memory.schemas.invisible_characters import unseen_character

MAX_LABELS = 32
MAX_METADATA = 32
LABEL_LENGTH = 200
METADATA_LENGTH = 1000
IMAGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@=+-]{0,199}")
METADATA_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")
_CONTROL = r"\x00-\x1f\x7f-\x9f"
_SEEN = rf"[^\s{_CONTROL}]"
BREAKS = "\t\n\r"


def normalised(text: str) -> str:
    """Text as it is stored and compared: NFC, without white space at its ends."""
    return unicodedata.normalize("NFC", text).strip()


def repaired(text: str) -> str:
    """Text of an earlier version without characters that are refused today; may be empty."""
    while (position := unseen_character(text := normalised(text), BREAKS)) is not None:
        text = text[:position] + " " * text[position].isspace() + text[position + 1 :]
    return text


def respelled(text: str) -> str:
    """Text of an earlier version as it is stored today: repaired, or escaped code points where nothing is left."""
    return text if text.isascii() else repaired(text) or text.encode("unicode_escape").decode()


def respelled_label(label: str) -> str:
    """A label of an earlier version as it is stored today, respelled part by part."""
    return label if label.isascii() else "/".join(respelled(part) for part in label.split("/"))


def check_seen(text: str, breaks: str = "") -> str:
    """The same text.

    Args:
        text: normalised.
        breaks: control characters that it may contain.

    Raises:
        ValueError: it contains invisible characters: control characters, lone surrogates, characters without width and
            the like, except where a script or an emoji needs them.
    """
    position = unseen_character(text, breaks)
    if position is None:
        return text
    character = text[position]
    if unicodedata.category(character) in {"Cc", "Cs"}:
        raise ValueError("must not contain control characters")
    raise ValueError(
        f"must not contain the invisible character U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()
    )


def _text(value: str) -> str:
    text = normalised(value)
    if not text:
        raise ValueError("must not be empty or blank")
    if len(text) > LABEL_LENGTH:
        raise ValueError(f"has more than {LABEL_LENGTH} characters in Unicode's NFC")
    return check_seen(text)


def _metadata_text(value: str) -> str:
    text = normalised(value)
    if len(text) > METADATA_LENGTH:
        raise ValueError(f"has more than {METADATA_LENGTH} characters in Unicode's NFC")
    return check_seen(text, BREAKS)


def label_path(value: str) -> str:
    """A label without white space around its parts."""
    return "/".join(part.strip() for part in value.split("/"))


def _label(value: str) -> str:
    path = label_path(value)
    if not all(path.split("/")):
        raise ValueError("a label is a word or a path such as animal/cat, without empty parts")
    return path


def _file_name(value: str) -> str:
    name = base_name(value)
    if not name:
        raise ValueError("must name a file, not a folder")
    return name


def base_name(path: str) -> str:
    """The name of a file without its folders, with either separator."""
    return path.replace("\\", "/").rpartition("/")[2].strip()


def sent_file_name(path: str) -> str | None:
    """The valid name of a sent file: cleaned, and cut to the longest length; None where it has no extension.

    Libraries that must send a name invent one without an extension: ``blob``, ``picture``.
    """
    name = base_name(repaired(re.sub(f"[{BREAKS}]", " ", path[-METADATA_LENGTH:])))
    extension = PurePosixPath(name).suffix
    if len(extension) not in range(2, 33):
        return None
    return repaired(name.removesuffix(extension)[: LABEL_LENGTH - len(extension)] + extension)


def _image_id(value: str) -> str:
    if not IMAGE_ID.fullmatch(value):
        raise ValueError("an image id has 1 to 200 of A-Z a-z 0-9 . _ : @ = + - and begins with a letter or digit")
    return value


def _distinct(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _not_whole(value: object) -> object:
    """Refuse an integer, which could silently lose its last digits as a float."""
    if isinstance(value, int):
        raise ValueError("a whole number of more than 64 bits")  # noqa: TRY004 - pydantic wants a ValueError
    return value


def at_most(number: int) -> BeforeValidator:
    """Refuse a dictionary with too many keys, before its values are validated one by one."""

    def check(value: object) -> object:
        if isinstance(value, dict) and len(value) > number:
            raise ValueError(f"at most {number}, not {len(value)}")
        return value

    return BeforeValidator(check)


def _metadata(fields: "dict[str, MetadataValue]") -> "dict[str, MetadataValue]":
    """Check and normalise metadata; done here, because pydantic's message for a union of types says less."""
    checked = dict(fields)
    for key, value in fields.items():
        if not METADATA_KEY.fullmatch(key):
            raise ValueError(f"metadata field {key!r}: a name has 1 to 64 of a-z 0-9 _ and begins with a letter")
        if isinstance(value, str):
            try:
                checked[key] = _metadata_text(value)
            except ValueError as error:
                raise ValueError(f"metadata field {key!r} {error}") from None
    return checked


Text = Annotated[
    str,
    Field(max_length=LABEL_LENGTH, json_schema_extra={"pattern": rf"^\s*{_SEEN}([^{_CONTROL}]*{_SEEN})?\s*$"}),
    AfterValidator(_text),
]
Label = Annotated[Text, AfterValidator(_label)]
Labels = Annotated[list[Label], Field(min_length=1, max_length=MAX_LABELS), AfterValidator(_distinct)]
FileName = Annotated[Text, AfterValidator(_file_name)]
ImageId = Annotated[str, Field(json_schema_extra={"pattern": f"^{IMAGE_ID.pattern}$"}), AfterValidator(_image_id)]
MetadataText = Annotated[str, Field(max_length=METADATA_LENGTH, strict=True)]
MetadataInteger = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
MetadataFloat = Annotated[FiniteFloat, Field(strict=True), BeforeValidator(_not_whole)]
MetadataValue = StrictBool | MetadataInteger | MetadataFloat | MetadataText
Metadata = Annotated[
    dict[str, MetadataValue],
    Field(max_length=MAX_METADATA, json_schema_extra={"propertyNames": {"pattern": f"^{METADATA_KEY.pattern}$"}}),
    AfterValidator(_metadata),
    at_most(MAX_METADATA),
]
StoredValue = StrictBool | MetadataInteger | MetadataFloat | Annotated[str, Field(strict=True)]
"""A value of stored metadata, maybe accepted by an earlier version with other rules."""
