"""The filter: a condition for each field (value, list of values, range, or ``not``), all of which must hold.

    {"labels": "cat", "source": ["camera-1", "camera-2"], "captured_at": {"gte": "2026-01-01T00:00:00Z"},
     "subject": {"not": "ann"}}

An image without the field meets only ``not``. A condition on ``labels`` covers a label and all labels below it:
``animal`` covers ``animal/cat``. `matches` defines the meaning; Qdrant Edge and a Qdrant server agree with it.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Annotated, Any, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    RootModel,
    StrictBool,
    StrictInt,
    model_serializer,
    model_validator,
)

from visual_memory.schemas.errors import InvalidFilter
from visual_memory.schemas.fault import Fault, json_pointer, limited
from visual_memory.schemas.fault_sentences import INVALID, TOO_LONG, UNKNOWN_FIELD
from visual_memory.schemas.field_types import FIELDS, TYPES, FieldType, Value, convert_value
from visual_memory.schemas.image import StoredImage
from visual_memory.schemas.labels import label_paths
from visual_memory.schemas.text_rules import (
    BREAKS,
    at_most,
    base_name,
    check_seen,
    label_path,
    normalised,
)

MAX_VALUES = 1000
MAX_CONDITIONS = 100
MAX_FILTER_BYTES = 64 * 2**10
"""Of a filter's JSON, in UTF-8 without whitespace: 1,000 ids of 60 letters, or 300 of the longest."""
SAFE_INTEGER = 2**53 - 1
"""The largest bound of a range: engines compare ranges as float64, which cannot tell larger integers apart."""

Scalar = (
    StrictBool
    | StrictInt
    | Annotated[FiniteFloat, Field(strict=True)]
    | Annotated[str, Field(max_length=1000, strict=True), AfterValidator(normalised)]
)
Bound = StrictInt | Annotated[FiniteFloat, Field(strict=True)] | Annotated[str, Field(strict=True)]
Values = Annotated[list[Scalar], Field(min_length=1, max_length=MAX_VALUES, fail_fast=True)]


class Range(BaseModel):
    """Numbers or moments between bounds; at least one bound is set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gt: Bound | None = Field(default=None, description="greater than", examples=[0])
    gte: Bound | None = Field(default=None, description="greater than or equal to", examples=["2026-01-01T00:00:00Z"])
    lt: Bound | None = Field(default=None, description="less than", examples=[100])
    lte: Bound | None = Field(default=None, description="less than or equal to", examples=["2026-12-31T23:59:59Z"])

    @model_validator(mode="after")
    def _has_a_bound(self) -> "Range":
        if not self.bounds():
            raise ValueError("a range needs at least one of gt, gte, lt, lte")
        return self

    @model_serializer
    def bounds(self) -> dict[str, Any]:
        """The bounds that are set, by their names."""
        return {name: value for name in ("gt", "gte", "lt", "lte") if (value := getattr(self, name)) is not None}


class Not(BaseModel):
    """Negation: the images that do not meet the condition, including those without the field."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    not_: Scalar | Values | Range = Field(
        alias="not", description="images that have one of these values do not meet the filter", examples=["ann"]
    )


Condition = Scalar | Values | Range | Not
_NORMALISERS: Mapping[str, Callable[[str], str]] = {"labels": label_path, "content_hash": str.lower}

Conditions = Annotated[dict[str, Condition], Field(max_length=MAX_CONDITIONS), at_most(MAX_CONDITIONS)]


class Filter(RootModel[Conditions]):
    """Conditions by field, all of which must hold; an empty filter covers everything."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="after")
    def _normalise_values(self) -> "Filter":
        """Spell values as stored images do, so that filters with the same meaning are equal."""
        for field, normalise in _NORMALISERS.items():
            if field in self.root:
                self.root[field] = _normalised(self.root[field], normalise)
        return self

    def __bool__(self) -> bool:
        return bool(self.root)

    def named(self, field: str | None = None) -> set[str]:
        """The values in the conditions on one field, or on all, as text; without booleans and ranges."""
        named = set[str]()
        for name, condition in self.root.items():
            inner = condition.not_ if isinstance(condition, Not) else condition
            values = inner if isinstance(inner, list) else [inner]
            if field in (None, name):
                named |= {str(value) for value in values if not isinstance(value, bool | Range)}
        return named

    def check_size(self) -> None:
        """Refuse a filter that is too long.

        Raises:
            InvalidFilter: its JSON is longer than `MAX_FILTER_BYTES`.
        """
        size = len(self.model_dump_json().encode())
        if size > MAX_FILTER_BYTES:
            error = InvalidFilter(
                f"filter: its JSON has {size:,} bytes, more than {MAX_FILTER_BYTES:,}: use fewer values, or send"
                " them in several requests"
            )
            error.errors = [Fault(pointer="", code=TOO_LONG, detail=f"must have at most {MAX_FILTER_BYTES:,} bytes")]
            raise error

    def clauses(self, metadata: Mapping[str, FieldType], *, stored: bool = False) -> "list[Clause]":
        """Check every condition against its field.

        Args:
            metadata: the types of the declared metadata fields, by name without ``metadata.``.
            stored: whether the filter was accepted before, maybe by a version with other rules.

        Raises:
            InvalidFilter: a field is unknown, or a value is not of the field's type, too large for a range, or text
                with invisible characters; it lists each such condition. Or the JSON is longer than
                `MAX_FILTER_BYTES`.
        """
        if not stored:
            self.check_size()
        fields = {**FIELDS, **{f"metadata.{name}": kind for name, kind in metadata.items()}}
        clauses, faults = list[Clause](), list[Fault]()
        for field, condition in self.root.items():
            try:
                clauses.append(_clause(field, condition, fields, stored))
            except ValueError as error:
                code = INVALID if field in fields else UNKNOWN_FIELD
                faults.append(Fault(pointer=json_pointer([field]), code=code, detail=str(error)))
        if faults:
            raise _invalid(faults)
        return clauses


def filters_by_image_ids(image_ids: Iterable[str]) -> Iterator[Filter]:
    """Split image ids into filters within `MAX_VALUES` and `MAX_FILTER_BYTES`."""
    batch: list[str] = []
    size = 0
    for image_id in image_ids:
        if len(batch) == MAX_VALUES or size + len(image_id) > MAX_FILTER_BYTES - 1000:
            yield Filter({"image_id": [*batch]})
            batch, size = [], 0
        batch.append(image_id)
        size += len(image_id) + len('"",')
    if batch:
        yield Filter({"image_id": [*batch]})


@dataclass(frozen=True)
class Clause:
    """One checked condition: the field has one of `values`, or is within `bounds`; the opposite where `negated`.

    With neither, any value of the field meets it.
    """

    field: str
    kind: FieldType
    values: tuple[Value, ...] = ()
    bounds: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    negated: bool = False


def matches(clauses: Iterable[Clause], image: StoredImage) -> bool:
    """Whether an image meets every clause: the reference for all engines."""
    return all(_meets(clause, image) != clause.negated for clause in clauses)


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}


def _meets(clause: Clause, image: StoredImage) -> bool:
    values = _values(clause, image)
    if clause.values:
        return any(value in clause.values for value in values)
    return any(all(_COMPARE[name](value, bound) for name, bound in clause.bounds.items()) for value in values)


def _values(clause: Clause, image: StoredImage) -> list[Any]:
    """The image's values in the clause's field, without metadata values of another type than the declared."""
    if clause.field == "labels":
        return label_paths(image.labels)
    name, _, key = clause.field.partition(".")
    value = image.metadata.get(key) if key else getattr(image, name)
    try:
        return [] if value is None else [convert_value(clause.field, clause.kind, value)]
    except ValueError:
        return []


def _invalid(faults: Sequence[Fault]) -> InvalidFilter:
    """The error for conditions that no image can meet; their sentences name their fields."""
    first = faults[0].detail
    error = InvalidFilter(
        f"filter: {first}" if len(faults) == 1 else f"filter: there are {len(faults)} faults; the first: {first}"
    )
    error.errors = limited(faults)
    return error


def _clause(field: str, condition: Condition, fields: Mapping[str, FieldType], stored: bool) -> Clause:
    """The clause of a condition.

    Raises:
        ValueError: the field is unknown, or the condition is not valid for it.
    """
    if field not in fields:
        raise ValueError(
            f"there is no field {field!r}; a filter may name {', '.join(sorted(fields))}"
            " (a metadata field must be declared in the settings)"
        )
    kind, negated = fields[field], isinstance(condition, Not)
    if isinstance(condition, Not):
        condition = condition.not_
    if not isinstance(condition, Range):
        values = condition if isinstance(condition, list) else [condition]
        checked = tuple(_checked(field, convert_value(field, kind, value), stored) for value in values)
        return Clause(field, kind, values=checked, negated=negated)
    if kind in (FieldType.KEYWORD, FieldType.BOOLEAN):
        raise ValueError(f"{field} holds {TYPES[kind][1]} and takes a value or a list, not a range")
    bounds = {name: convert_value(field, kind, value) for name, value in condition.bounds().items()}
    if kind is FieldType.INTEGER and any(abs(cast("int", bound)) > SAFE_INTEGER for bound in bounds.values()):
        raise ValueError(f"a range on {field} takes whole numbers up to 2**53 - 1; name the values instead")
    return Clause(field, kind, bounds=bounds, negated=negated)


def _checked(field: str, value: Value, stored: bool) -> Value:
    """The value.

    Raises:
        ValueError: no image can have the value, such as text with invisible characters.
    """
    if not isinstance(value, str):
        return value
    if not stored:
        try:
            check_seen(value, BREAKS)
            if not value and field in FIELDS:
                raise ValueError("must not be empty or blank")  # every image would meet its negation
            if field == "labels" and not all(value.split("/")):
                raise ValueError("takes a word or a path such as animal/cat, without empty parts")
            if field == "file_name" and base_name(value) != value:
                raise ValueError("takes the name of a file, without folders")
        except ValueError as error:
            raise ValueError(f"{field} {error}") from None
    return value


def _normalised(condition: Condition, normalise: Callable[[str], str]) -> Condition:
    """A condition with all its text normalised."""
    if isinstance(condition, Not):
        return Not.model_validate({"not": _normalised(condition.not_, normalise)})
    if isinstance(condition, list):
        return [normalise(each) if isinstance(each, str) else each for each in condition]
    return normalise(condition) if isinstance(condition, str) else condition
