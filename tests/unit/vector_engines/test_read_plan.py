"""Which filters are written so that the engine collects points instead of walking past all others."""

from collections.abc import Mapping

import pytest

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.services.vector_engines.engine_contract import PointFilter
from visual_memory.services.vector_engines.read_plan import Estimate, bounded_by_id, bounded_by_moment

EVERYTHING = 1_000_000
TENANT = Clause("tenant", FieldType.KEYWORD, ("t",))


def clause(name: str) -> Clause:
    return Clause(name, FieldType.KEYWORD, (name,))


def estimates(numbers: Mapping[str, int]) -> Estimate:
    """Estimates as the engine makes them: as if each condition were independent of the others."""

    def estimate(where: PointFilter) -> int:
        share = 1.0 if where.tenant is None else numbers["tenant"] / EVERYTHING
        for each in where.clauses:
            share *= numbers[each.field] / EVERYTHING
        return round(EVERYTHING * share)

    return estimate


def repeated(planned: PointFilter, where: PointFilter) -> set[str]:
    assert planned.clauses[: len(where.clauses)] == where.clauses
    assert planned.tenant == where.tenant
    return {each.field for each in planned.clauses[len(where.clauses) :]}


@pytest.mark.parametrize(
    ("numbers", "by_moment", "by_id"),
    [
        ({"tenant": EVERYTHING, "a": 50_000}, "a", None),
        ({"tenant": EVERYTHING, "a": 200_000}, None, None),
        ({"tenant": EVERYTHING, "a": 3_000}, None, None),  # the engine collects these as it is
        ({"tenant": EVERYTHING, "a": 100_000, "b": 500_000}, None, "a"),
        ({"tenant": EVERYTHING, "a": 500_000, "b": 40_000}, "b", "b"),
        ({"tenant": 30_000, "a": 900_000}, "tenant", "tenant"),
        ({"tenant": 30_000}, "tenant", None),
        ({"tenant": EVERYTHING, "a": 0}, None, None),
    ],
)
def test_the_rarest_condition_is_repeated_where_walking_may_take_long(
    numbers: Mapping[str, int], by_moment: str | None, by_id: str | None
) -> None:
    where, estimate = PointFilter("t", tuple(clause(each) for each in numbers if each != "tenant")), estimates(numbers)
    for planned, expected in (
        (bounded_by_moment(where, 101, estimate), by_moment),
        (bounded_by_id(where, 101, estimate), by_id),
    ):
        assert repeated(planned, where) == ({expected} if expected else set())
        if expected:  # the engine then expects to look at more points while it walks than it has to collect
            assert 101 * EVERYTHING / max(1, estimate(planned)) > numbers[expected]


def test_conditions_that_only_leave_points_out_are_not_collected() -> None:
    left_out = Clause("a", FieldType.KEYWORD, ("a",), negated=True)
    undated = Clause("b", FieldType.KEYWORD, negated=True)  # these points lack the field, which is indexed
    estimate = estimates({"tenant": EVERYTHING, "a": 20_000, "b": 40_000})
    assert bounded_by_moment(PointFilter("t", (left_out,)), 101, estimate).clauses == (left_out,)
    where = PointFilter("t", (undated,))
    assert repeated(bounded_by_moment(where, 101, estimate), where) == {"b"}
