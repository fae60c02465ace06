"""Promise 5: a route that declares no scope does not answer to all, but stops the start."""

import pytest
from fastapi import APIRouter

from visual_memory.schemas.api_key import Scope
from visual_memory.services.api.authorize import AuthorizedRoute, check_all_authorized, requires_scope


def test_a_route_must_declare_its_scope() -> None:
    router = APIRouter(route_class=AuthorizedRoute)
    with pytest.raises(LookupError, match="/v1/new declares no scope"):
        router.get("/v1/new")(lambda: "open to all")


def test_a_router_without_authorization_is_refused() -> None:
    router = APIRouter()
    router.get("/v1/new")(requires_scope(Scope.CLASSIFY)(lambda: "open to all"))
    with pytest.raises(LookupError, match="/v1/new would answer without a key"):
        check_all_authorized(router)


def test_an_authorized_router_passes_and_documents_its_scope() -> None:
    router = APIRouter(route_class=AuthorizedRoute)
    router.get("/v1/new", operation_id="show_new")(requires_scope(Scope.REMOVE)(lambda: "to some"))
    check_all_authorized(router)
    [route] = router.routes
    assert isinstance(route, AuthorizedRoute)
    assert route.description.endswith("Needs a key with the scope `remove`.")
    assert route.summary == "Show new"


def test_a_route_must_have_an_operation_id() -> None:
    router = APIRouter(route_class=AuthorizedRoute)
    with pytest.raises(LookupError, match="/v1/new has no operation_id"):
        router.get("/v1/new")(requires_scope(Scope.REMOVE)(lambda: "to some"))
