"""What is said of a value that does not fit: a code and a sentence of ours for every kind of error of pydantic."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

MISSING = "missing"
UNKNOWN_FIELD = "unknown_field"
WRONG_TYPE = "wrong_type"
OUT_OF_RANGE = "out_of_range"
TOO_SHORT = "too_short"
TOO_LONG = "too_long"
NOT_ALLOWED = "not_allowed"
WRONG_FORM = "wrong_form"
INVALID_JSON = "invalid_json"
INVALID = "invalid"

PLAIN = (INVALID, "has a value that is not allowed here")
"""For kinds of error that the table lacks, as a later pydantic may have."""

_OBJECT, _LIST, _TEXT = "must be an object", "must be a list", "must be text"
_WHOLE, _NUMBER, _BOOLEAN = "must be a whole number", "must be a number", "must be true or false"
_DATE, _TIME = "must be a date such as 2026-01-31", "must be a time such as 12:00:00"
_MOMENT = "must be a moment such as 2026-01-31T12:00:00Z"
_DURATION = "must be a duration such as P30D"
_DECIMAL, _FRACTION = "must be a decimal number", "must be a fraction such as 1/3"
_COMPLEX, _UUID, _URL = "must be a complex number", "must be a UUID", "must be a URL"


def _all(code: str, text: str, kinds: Iterable[str]) -> dict[str, tuple[str, str]]:
    return dict.fromkeys(kinds, (code, text))


SENTENCES: Mapping[str, tuple[str, str]] = {
    **_all(MISSING, "must be given", ("missing", "missing_argument", "missing_keyword_only_argument")),
    **_all(MISSING, "must be given", ("missing_positional_only_argument",)),
    **_all(UNKNOWN_FIELD, "is no field that is known here", ("extra_forbidden", "unexpected_keyword_argument")),
    **_all(UNKNOWN_FIELD, "is no field that is known here", ("unexpected_positional_argument", "no_such_attribute")),
    **_all(NOT_ALLOWED, "cannot be changed", ("frozen_field", "frozen_instance")),
    **_all(NOT_ALLOWED, "is given twice: send it once", ("multiple_argument_values",)),
    **_all(INVALID_JSON, "is not JSON{position}", ("json_invalid",)),
    **_all(INVALID_JSON, "must be JSON", ("json_type",)),
    **_all(INVALID, "is nested too deeply", ("recursion_loop", "recursion_depth_exceeded")),
    **_all(WRONG_TYPE, "has a name that is not text", ("invalid_key",)),
    **_all(WRONG_TYPE, _OBJECT, ("model_type", "model_attributes_type", "dataclass_type", "dataclass_exact_type")),
    **_all(WRONG_TYPE, _OBJECT, ("dict_type", "frozen_dict_type", "ordered_dict_type", "counter_type", "mapping_type")),
    **_all(WRONG_TYPE, "must be a list or an object", ("named_tuple_type", "arguments_type")),
    **_all(WRONG_TYPE, _LIST, ("iterable_type", "iteration_error", "list_type", "deque_type", "tuple_type")),
    **_all(WRONG_TYPE, _LIST, ("set_type", "frozen_set_type")),
    **_all(WRONG_TYPE, _TEXT, ("string_type", "bytes_type")),
    **_all(WRONG_TYPE, "must be null", ("none_required",)),
    **_all(WRONG_TYPE, _BOOLEAN, ("bool_type", "bool_parsing")),
    **_all(WRONG_TYPE, _WHOLE, ("int_type", "int_parsing", "int_from_float")),
    **_all(WRONG_TYPE, _NUMBER, ("float_type", "float_parsing")),
    **_all(WRONG_TYPE, _DATE, ("date_type",)),
    **_all(WRONG_TYPE, _TIME, ("time_type",)),
    **_all(WRONG_TYPE, _MOMENT, ("datetime_type",)),
    **_all(WRONG_TYPE, _DURATION, ("time_delta_type",)),
    **_all(WRONG_TYPE, _DECIMAL, ("decimal_type", "decimal_parsing")),
    **_all(WRONG_TYPE, _FRACTION, ("fraction_type", "fraction_parsing")),
    **_all(WRONG_TYPE, _COMPLEX, ("complex_type", "complex_str_parsing")),
    **_all(WRONG_TYPE, _UUID, ("uuid_type",)),
    **_all(WRONG_TYPE, _URL, ("url_type",)),
    **_all(WRONG_TYPE, "must be the path of a file or folder", ("path_type",)),
    **_all(OUT_OF_RANGE, "must be greater than {gt}", ("greater_than",)),
    **_all(OUT_OF_RANGE, "must be {ge} or more", ("greater_than_equal",)),
    **_all(OUT_OF_RANGE, "must be less than {lt}", ("less_than",)),
    **_all(OUT_OF_RANGE, "must be {le} or less", ("less_than_equal",)),
    **_all(OUT_OF_RANGE, "must be a multiple of {multiple_of}", ("multiple_of",)),
    **_all(OUT_OF_RANGE, "must be a finite number", ("finite_number",)),
    **_all(OUT_OF_RANGE, "is too large a whole number", ("int_parsing_size",)),
    **_all(OUT_OF_RANGE, "must be in the past", ("date_past", "datetime_past")),
    **_all(OUT_OF_RANGE, "must be in the future", ("date_future", "datetime_future")),
    **_all(OUT_OF_RANGE, "must have {max_digits:digit} at most", ("decimal_max_digits",)),
    **_all(OUT_OF_RANGE, "must have {decimal_places:decimal place} at most", ("decimal_max_places",)),
    **_all(OUT_OF_RANGE, "must have {whole_digits:digit} before the point at most", ("decimal_whole_digits",)),
    **_all(TOO_SHORT, "must have at least {min_length:item}", ("too_short",)),
    **_all(TOO_SHORT, "must have at least {min_length:character}", ("string_too_short",)),
    **_all(TOO_SHORT, "must have at least {min_length:byte}", ("bytes_too_short",)),
    **_all(TOO_LONG, "must have at most {max_length:item}", ("too_long",)),
    **_all(TOO_LONG, "must have at most {max_length:character}", ("string_too_long", "url_too_long")),
    **_all(TOO_LONG, "must have at most {max_length:byte}", ("bytes_too_long",)),
    **_all(NOT_ALLOWED, "must be {expected}", ("enum", "literal_error")),
    **_all(NOT_ALLOWED, "must name one of the kinds {expected_tags}", ("union_tag_invalid",)),
    **_all(MISSING, "must name its kind by {discriminator}", ("union_tag_not_found",)),
    **_all(NOT_ALLOWED, "must be a URL that begins with {expected_schemes}", ("url_scheme",)),
    **_all(WRONG_FORM, "must be Unicode text without halves of surrogate pairs", ("string_unicode",)),
    **_all(WRONG_FORM, "must have the form of the regular expression {pattern}", ("string_pattern_mismatch",)),
    **_all(WRONG_FORM, "must have ASCII characters only", ("string_not_ascii",)),
    **_all(WRONG_FORM, "must be {encoding}", ("bytes_invalid_encoding",)),
    **_all(WRONG_FORM, _DATE, ("date_parsing", "date_from_datetime_parsing")),
    **_all(WRONG_FORM, "must be a date, without a time of day", ("date_from_datetime_inexact",)),
    **_all(WRONG_FORM, _TIME, ("time_parsing",)),
    **_all(WRONG_FORM, _MOMENT, ("datetime_parsing", "datetime_object_invalid", "datetime_from_date_parsing")),
    **_all(WRONG_FORM, "must not name a time zone", ("timezone_naive",)),
    **_all(WRONG_FORM, "must name its time zone, as in 2026-01-31T12:00:00Z", ("timezone_aware",)),
    **_all(WRONG_FORM, "must be in the time zone {tz_expected} seconds from UTC", ("timezone_offset",)),
    **_all(WRONG_FORM, _DURATION, ("time_delta_parsing",)),
    **_all(WRONG_FORM, _URL, ("url_parsing", "url_syntax_violation")),
    **_all(WRONG_FORM, _UUID, ("uuid_parsing",)),
    **_all(WRONG_FORM, "must be a UUID of version {expected_version}", ("uuid_version",)),
    **_all(*PLAIN, ("needs_python_object", "get_attribute_error", "default_factory_not_called", "is_instance_of")),
    **_all(*PLAIN, ("is_subclass_of", "callable_type", "set_item_not_hashable", "missing_sentinel_error")),
    **_all(*PLAIN, ("ellipsis_error",)),
}
"""The code and the sentence, by the ``type`` of pydantic's error, with names from its context in braces."""

OWN = {"value_error", "assertion_error", "attribute"}
"""These carry a sentence of the schemas of this service, which stands as it is."""

_NAME = re.compile(r"\{(\w+)(?::([a-z ]+))?\}")
_AT = re.compile(r"line (\d+) column (\d+)")


def describe(error: Mapping[str, Any]) -> tuple[str, str]:
    """The code and the sentence for an error; the sentence quotes no value that was sent.

    Args:
        error: one of `pydantic.ValidationError.errors`, with its context where it has one.
    """
    kind, context = str(error["type"]), error.get("ctx") or {}
    if kind in OWN:
        return INVALID, str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "json_invalid":
        context = {"position": _position(error["loc"], str(context.get("error", "")))}
    code, text = SENTENCES.get(kind, PLAIN)
    return code, _NAME.sub(lambda name: _filled(context.get(name[1]), name[2]), text)


def _filled(value: Any, unit: str | None) -> str:
    """A value of the context; with a unit, the number of these: ``1 item``, ``2,000 characters``."""
    if unit is None or not isinstance(value, int):
        return str(value)
    return f"{value:,} {unit}{'s' * (value != 1)}"


def _position(path: tuple[int | str, ...], words: str) -> str:
    """Where JSON has its fault: by line and column, or by the number of the character with which the path ends."""
    if found := _AT.search(words):
        return f": line {found[1]}, column {found[2]}"
    return f": character {path[-1] + 1}" if path and isinstance(path[-1], int) else ""
