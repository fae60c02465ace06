"""Promise 5: a route that says nothing of its scope does not answer to all, but stops the start."""

import pytest
from fastapi import APIRouter

from visual_memory.schemas.api_key import Scope
from visual_memory.services.api.authorize import GuardedRoute, check_guarded, needs


def test_a_guarded_route_must_say_what_it_needs() -> None:
    router = APIRouter(route_class=GuardedRoute)
    with pytest.raises(LookupError, match="/v1/new says nothing of the scope"):
        router.get("/v1/new")(lambda: "open to all")


def test_a_router_without_the_guard_is_refused() -> None:
    router = APIRouter()
    router.get("/v1/new")(needs(Scope.CLASSIFY)(lambda: "open to all"))
    with pytest.raises(LookupError, match="/v1/new would answer without a key"):
        check_guarded(router)


def test_a_guarded_router_passes_and_tells_its_scope() -> None:
    router = APIRouter(route_class=GuardedRoute)
    router.get("/v1/new")(needs(Scope.REMOVE)(lambda: "to some"))
    check_guarded(router)
    [route] = router.routes
    assert isinstance(route, GuardedRoute)
    assert route.description.endswith("Needs a key with the scope `remove`.")
