"""List every fault of a value that does not fit its model: where it is, and what would be right."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.schemas.fault import Fault, json_pointer, limited, summary
from visual_memory.schemas.fault_sentences import INVALID_JSON, MISSING, UNKNOWN_FIELD, WRONG_TYPE, describe

MAX_SENTENCES = 3
"""The most faults that `first_faults` names."""
MAX_EXAMINED = 2000
"""The most errors of pydantic that are examined: a body of 1 MiB may have 100,000 unknown fields."""
UNKNOWN = object()
"""In place of a value that is not at hand."""
_TAG = re.compile(r".*[\[(].*|(constrained|function|lax|json|nullable)-.*|bool|int|float|str|[A-Z].*", re.DOTALL)
"""What pydantic calls the branches of unions: types of Python, and classes."""

Kind = TypeVar("Kind", bound=VisualMemoryError)
Path = tuple[int | str, ...]


@dataclass(frozen=True)
class _Found:
    """A fault on its way through unions.

    Attributes:
        number: its place in pydantic's order, which is that of the fields.
        path: to the value, with the branches of unions that were tried.
        branches: the positions of these in the path.
    """

    number: int
    path: Path
    branches: tuple[int, ...]
    code: str
    detail: str

    def below(self, position: int) -> "_Found":
        """The fault without the branch at a position of its path."""
        path = self.path[:position] + self.path[position + 1 :]
        return replace(self, path=path, branches=tuple(each - 1 for each in self.branches[1:]))


def list_faults(
    errors: ValidationError | Sequence[Mapping[str, Any]], sent: Any = UNKNOWN, **place: str | int
) -> list[Fault]:
    """Every fault of a value, each with its place.

    Of a union the branch that fits best is described; where none does, all that the value may be.

    Args:
        errors: pydantic's; as a list with their context, and with paths that begin within the value.
        sent: the value, with which names in it are told from names of branches.
        place: the fields of `Fault` that say where the value was, as ``part="fields", index=3``.
    """
    if isinstance(errors, ValidationError):
        errors = errors.errors(include_url=False, include_input=False)
    found = _narrowed([_located(number, error, sent) for number, error in enumerate(errors[:MAX_EXAMINED])])
    return [
        Fault(**place, pointer=json_pointer(path), code=code, detail=detail)  # type: ignore[arg-type]  # by name
        for path, code, detail in _merged(found)
    ]


def list_json_faults(error: ValidationError, text: str | bytes, **place: str | int) -> list[Fault]:
    """Every fault of a JSON text; see `list_faults`."""
    try:
        sent = json.loads(text)
    except (ValueError, RecursionError):
        sent = UNKNOWN
    return list_faults(error, sent, **place)


def error_of_faults(kind: type[Kind], faults: Sequence[Fault], whole: str = "") -> Kind:
    """An error whose message sums up its faults, and that lists them.

    Args:
        kind: the class of the error.
        faults: at least one.
        whole: the name of the value for a fault of all of it.
    """
    error = kind(summary(faults, whole))
    error.errors = tuple(limited(faults))
    return error


def first_faults(error: ValidationError, whole: str = "body", sent: Any = UNKNOWN) -> str:
    """The first few faults as text, without the values that were sent.

    Args:
        error: pydantic's.
        whole: the name of the validated value, for faults without a path.
        sent: the value; see `list_faults`.
    """
    texts = [str(fault) if fault.pointer else f"{whole}: {fault.detail}" for fault in list_faults(error, sent)]
    more = f" (and {len(texts) - MAX_SENTENCES} more)" if len(texts) > MAX_SENTENCES else ""
    return "; ".join(texts[:MAX_SENTENCES]) + more


def _located(number: int, error: Mapping[str, Any], sent: Any) -> _Found:
    """An error with its path, in which the branches of unions are found."""
    path: Path = tuple(error["loc"])
    code, detail = describe(error)
    if code == INVALID_JSON:
        return _Found(number, (), (), code, detail)  # its path is a position in the text
    last, value, branches = len(path) - (code == MISSING), sent, list[int]()
    for position, name in enumerate(path[:last]):
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(name, int):
            value = value[name] if isinstance(value, Sequence) and name < len(value) else value
        elif value is not UNKNOWN or _TAG.fullmatch(name):
            branches.append(position)
    return _Found(number, path, tuple(branches), code, detail)


def _narrowed(faults: Iterable[_Found]) -> list[_Found]:
    """Replace the faults of all branches of each union by those of the branch that fits best."""
    whole = list[_Found]()
    unions = dict[Path, dict[int | str, list[_Found]]]()
    for fault in faults:
        if not fault.branches:
            whole.append(fault)
            continue
        position = fault.branches[0]
        tried = unions.setdefault(fault.path[:position], {})
        tried.setdefault(fault.path[position], []).append(fault.below(position))
    for at, tried in unions.items():
        whole += _best(at, tried.values())
    return sorted(whole, key=lambda fault: fault.number)


def _best(at: Path, branches: Iterable[Sequence[_Found]]) -> list[_Found]:
    """The faults of the branch that fits best; of all branches where the value is of a type that none takes."""
    narrowed = [_narrowed(branch) for branch in branches]
    fitting = [branch for branch in narrowed if any(each.path != at or each.code != WRONG_TYPE for each in branch)]
    return min(fitting, key=_distance) if fitting else [each for branch in narrowed for each in branch]


def _distance(branch: Sequence[_Found]) -> tuple[int, int]:
    """How far a value is from what a branch takes: fields too few or too many count more than their values."""
    return sum(fault.code in {MISSING, UNKNOWN_FIELD} for fault in branch), len({fault.path for fault in branch})


def _merged(faults: Iterable[_Found]) -> Iterator[tuple[Path, str, str]]:
    """Each fault once, with its place; the types that a value may have are joined by "or"."""
    details = dict[tuple[Path, str], dict[str, None]]()
    for fault in faults:
        details.setdefault((fault.path, fault.code), {})[fault.detail] = None
    for (path, code), (first, *others) in details.items():
        if code == WRONG_TYPE and others:
            *types, last = [each.removeprefix("must be ") for each in (first, *others)]
            yield path, code, f"must be {', '.join(types)} or {last}"
        else:
            yield from ((path, code, each) for each in (first, *others))
