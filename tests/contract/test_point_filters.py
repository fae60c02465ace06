"""A filter means the same to every engine and to `schemas.filter.matches`."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.memory_images import METADATA, image, put
from visual_memory.schemas.field_types import FIELDS, FieldType
from visual_memory.schemas.filter import Clause, Filter, matches
from visual_memory.schemas.text_rules import BREAKS, repaired
from visual_memory.services.memory.memory_facade import Memory

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

KINDS = {**{field: FIELDS[field] for field in ("labels", "subject", "captured_at")}, "removal": FieldType.KEYWORD}
SAFE = 2**53 - 1
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

# Few values, near one another, so that conditions are often met; and now and then any value at all.
texts = st.sampled_from(["a", "A", "a b", "é", "e\u0301", "日本", "🐈", "null", "1", "a.b", 'q"\\'])
any_text = texts | st.text(max_size=5).map(repaired)
some_text = any_text.filter(bool)
words = any_text.filter(lambda text: text and "/" not in text and not any(each in text for each in BREAKS))
labels = st.lists(words, min_size=1, max_size=3).map("/".join)
near = [0, 1, -1, SAFE - 1, SAFE, -SAFE]
integers = st.sampled_from([*near, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]) | st.integers(-(2**63), 2**63 - 1)
bounds = st.sampled_from(near) | st.integers(-SAFE, SAFE)
# Engines keep numbers as JSON, and read more than 15 significant digits, or extreme exponents, back inexactly.
floats = st.sampled_from(
    [0.0, -0.0, 0.1, 0.3, 0.300000000000001, 0.299999999999999, -1e-7, 1e-7, 1e15, 5.0]
) | st.floats(-1e15, 1e15).map(lambda number: round(float(f"{number:.15g}"), 20))
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=11))])
moments = st.builds(
    lambda moment, zone: moment.astimezone(zone),
    st.sampled_from(
        [NOON, NOON + MICROSECOND, NOON - MICROSECOND, NOON.replace(year=1969), NOON.replace(microsecond=999999)]
    )
    | st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC)),  # noqa: DTZ001
    zones,
)
written = moments.map(datetime.isoformat)

fields = {
    "labels": (labels, labels),
    "source": (words, some_text),
    "subject": (words, some_text),
    "captured_at": (moments, written),
    "metadata.camera": (any_text, any_text),
    "metadata.count": (integers, integers),
    "metadata.weight": (floats, floats),
    "metadata.indoor": (st.booleans(), st.booleans()),
    "metadata.seen": (written, written),
}


@st.composite
def images(draw: st.DrawFn) -> dict[str, Any]:
    optional = {field: draw(st.none() | held) for field, (held, _) in fields.items() if field != "labels"}
    metadata = {name: optional[f"metadata.{name}"] for name in METADATA if optional[f"metadata.{name}"] is not None}
    plain = {field: value for field, value in optional.items() if "." not in field}
    return {"labels": draw(st.lists(labels, min_size=1, max_size=3, unique=True)), "metadata": metadata, **plain}


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3, unique=True))
    return {field: draw(conditions(field)) for field in chosen}


def conditions(field: str) -> st.SearchStrategy[Any]:
    values = fields[field][1]
    condition = values | st.lists(values, min_size=1, max_size=3)
    if field in {"captured_at", "metadata.count", "metadata.weight", "metadata.seen"}:
        limits = bounds if field == "metadata.count" else values
        names = st.lists(st.sampled_from(["gt", "gte", "lt", "lte"]), min_size=1, max_size=2, unique=True)
        condition |= names.flatmap(lambda chosen: st.fixed_dictionaries(dict.fromkeys(chosen, limits)))
    return condition | condition.map(lambda given: {"not": given})


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(held=st.lists(images(), min_size=5, max_size=5), asked=st.lists(filters(), min_size=8, max_size=8))
def test_engines_and_plain_python_agree(
    memory: Memory, held: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> None:
    mine = {f"i{n}": image("agree", f"i{n}", **given) for n, given in enumerate(held)}
    put(memory, list(mine.values()))  # replaces those of the example before
    assert memory.images.get("agree", list(mine)) == mine
    has_value = [[Clause(field, kind, negated=negated)] for field, kind in KINDS.items() for negated in (False, True)]
    for clauses in [*(Filter.model_validate(condition).clauses(METADATA) for condition in asked), *has_value]:
        expected = {image_id for image_id, each in mine.items() if matches(clauses, each)}
        found, _ = memory.images.page("agree", clauses, 100)
        assert {each.image_id for each in found} == expected, clauses
