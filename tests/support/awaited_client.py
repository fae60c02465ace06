"""An `AsyncClient` with the methods of a `Client`, so that a test runs with both."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any, Self, cast

from visual_memory.services.client.http_client import AsyncClient, Client


class _Awaited:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(*args, **kwargs)

    def __enter__(self) -> Self:
        self._runner.run(self._client.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._runner.run(method(*args, **kwargs))

        return call

    def iterate(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
        walk = self._client.iterate(getattr(self._client, method.__name__), *args, **kwargs)
        return self._runner.run(_all(walk))

    def events(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        walk = self._client.events(*args, **kwargs)
        while True:
            yield self._runner.run(_next(walk))


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items)


async def _all(items: AsyncIterator[Any]) -> list[Any]:
    return [each async for each in items]


AWAITED_CLIENT = cast(type[Client], _Awaited)
CLIENTS = (Client, AWAITED_CLIENT)
