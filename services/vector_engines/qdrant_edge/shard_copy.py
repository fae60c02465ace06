"""A shard copied while it is used: what is written meanwhile is copied again."""

from collections.abc import Callable, Collection

import qdrant_edge as edge

PAGE = 200
PAGES_AT_ONCE = 20
"""Pages between two flushes of the copy, so that its write-ahead log stays short."""


class Copy:
    """Copies live points: payload and vectors to the last bit, and the payload indexes.

    Args:
        source: what is copied; others may write to it.
        target: nobody else's.
        may_go_on: called before each page; what it raises ends the copying.
    """

    def __init__(self, source: edge.EdgeShard, target: edge.EdgeShard, may_go_on: Callable[[], None]) -> None:
        self._source = source
        self._target = target
        self._may_go_on = may_go_on

    def indexes(self) -> None:
        """Give the copy the payload indexes that it lacks."""
        held = {field: str(index.data_type) for field, index in self._target.info().payload_schema.items()}
        for field, index in self._source.info().payload_schema.items():
            if held.get(field) != str(index.data_type):
                kind = index.data_type if index.params is None else index.params
                self._target.update(edge.UpdateOperation.create_field_index(field, kind))

    def all(self) -> None:
        """Copy every point."""
        cursor: edge.PointId | None = None
        pages = 0
        while True:
            self._may_go_on()
            request = edge.ScrollRequest(offset=cursor, limit=PAGE, with_payload=True, with_vector=True)
            records, cursor = self._source.scroll(request)
            self._put(records)
            pages += 1
            if pages % PAGES_AT_ONCE == 0 or cursor is None:
                self._target.flush()
            if cursor is None:
                return

    def again(self, ids: Collection[str]) -> None:
        """Let the copy hold these points as the source holds them now, or as little."""
        listed = list(ids)
        for start in range(0, len(listed), PAGE):
            self._may_go_on()
            page = listed[start : start + PAGE]
            records = self._source.retrieve([*page], with_payload=True, with_vector=True)
            gone: list[edge.PointId] = [*{*page} - {str(record.id) for record in records}]
            self._target.update(edge.UpdateOperation.delete_points(gone))
            self._put(records)

    def _put(self, records: list[edge.Record]) -> None:
        points = [edge.Point(record.id, record.vector or {}, record.payload) for record in records]
        if points:
            self._target.update(edge.UpdateOperation.upsert_points(points))
