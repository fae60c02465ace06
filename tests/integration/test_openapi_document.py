"""The OpenAPI document: valid, and every operation, field and parameter is described, with an example."""

import json
from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.testclient import TestClient

from visual_memory.services.api.app import TAGS, create_app
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.bootstrap.wiring.wire_encoder_migration import ActiveUseCases
from visual_memory.services.settings import Settings


@cache
def document() -> dict[str, Any]:
    """The document of an app without use cases: nothing of it depends on them."""
    process = SimpleNamespace(
        keys=None, sessions=None, login_links=None, readiness=SimpleNamespace(faults=dict), memory=None
    )
    wired = cast("ActiveUseCases[ApiProcess]", SimpleNamespace(current=lambda: process))
    found: dict[str, Any] = TestClient(create_app(Settings(), wired)).get("/openapi.json").json()
    return found


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, by_method in document()["paths"].items():
        for method, operation in by_method.items():
            yield f"{method.upper()} {path}", operation


def fields() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, schema in document()["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            yield f"{name}.{field}", described


def parameters() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, operation in operations():
        for parameter in operation.get("parameters", []):
            yield f"{name} {parameter['name']}", parameter


def is_nested(schema: dict[str, Any]) -> bool:
    """Whether a field is an object of another schema, or a list of them, whose own fields have examples."""
    if "$ref" in schema:
        return "enum" not in document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    parts = [part for key in ("anyOf", "oneOf", "allOf") for part in schema.get(key, [])]
    parts += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
    return any(map(is_nested, parts))


def test_it_is_valid() -> None:
    assert document()["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document()).validate()


def test_every_field_has_a_description() -> None:
    assert [name for name, schema in fields() if not schema.get("description")] == []


def test_every_field_has_an_example() -> None:
    without = [name for name, schema in fields() if not is_nested(schema) and not {"examples", "const"} & schema.keys()]
    assert without == []


def test_every_parameter_has_a_description_and_an_example() -> None:
    for name, parameter in parameters():
        assert parameter.get("description"), name
        assert parameter.get("examples") or parameter.get("example") or parameter["schema"].get("examples"), name


def test_every_example_is_valid() -> None:
    components = {"components": document()["components"]}
    described = [*fields(), *((name, parameter["schema"]) for name, parameter in parameters())]
    for name, schema in described:
        validator = jsonschema.Draft202012Validator({**components, **schema})
        for example in schema.get("examples", []):
            assert [error.message for error in validator.iter_errors(example)] == [], name


def test_every_operation_is_named_summed_up_and_tagged() -> None:
    names = [operation["operationId"] for _, operation in operations()]
    assert len(names) == len(set(names))
    assert [tag["name"] for tag in document()["tags"]] == [*TAGS]
    for name, operation in operations():
        assert operation["operationId"].isidentifier(), name
        assert "_v1" not in operation["operationId"], name
        assert operation["summary"], name
        assert operation["description"], name
        [tag] = operation["tags"]
        assert tag in TAGS, name


@pytest.mark.parametrize("status", ["401", "403", "422", "429"])
def test_every_operation_with_a_key_lists_the_errors_of_keys(status: str) -> None:
    for name, operation in operations():
        if operation.get("security"):
            answer = operation["responses"][status]
            assert answer["content"].keys() == {"application/problem+json"}, name
            assert answer["description"], name


def test_it_is_the_same_every_time() -> None:
    first = json.dumps(document())
    document.cache_clear()
    assert json.dumps(document()) == first
