"""Copy a shard while it is in use; points that are written meanwhile are copied again."""

from collections.abc import Callable, Collection

import qdrant_edge as edge

PAGE = 200
PAGES_AT_ONCE = 20
"""Pages between two flushes of the copy, so that its write-ahead log stays short."""


class ShardCopy:
    """Copies live points, with payloads and vectors bit for bit, and payload indexes.

    Args:
        source: the shard to copy; others may write to it.
        target: the copy; nothing else uses it.
        check_stop: called before each page; an exception that it raises stops the copy.
    """

    def __init__(self, source: edge.EdgeShard, target: edge.EdgeShard, check_stop: Callable[[], None]) -> None:
        self._source = source
        self._target = target
        self._check_stop = check_stop

    def indexes(self) -> None:
        """Create the payload indexes that the copy lacks."""
        existing = {field: str(index.data_type) for field, index in self._target.info().payload_schema.items()}
        for field, index in self._source.info().payload_schema.items():
            if existing.get(field) != str(index.data_type):
                kind = index.data_type if index.params is None else index.params
                self._target.update(edge.UpdateOperation.create_field_index(field, kind))

    def all(self) -> None:
        """Copy every point."""
        cursor: edge.PointId | None = None
        pages = 0
        while True:
            self._check_stop()
            request = edge.ScrollRequest(offset=cursor, limit=PAGE, with_payload=True, with_vector=True)
            records, cursor = self._source.scroll(request)
            self._put(records)
            pages += 1
            if pages % PAGES_AT_ONCE == 0 or cursor is None:
                self._target.flush()
            if cursor is None:
                return

    def again(self, ids: Collection[str]) -> None:
        """Copy points again as they are now; delete those that are gone."""
        listed = list(ids)
        for start in range(0, len(listed), PAGE):
            self._check_stop()
            page = listed[start : start + PAGE]
            records = self._source.retrieve([*page], with_payload=True, with_vector=True)
            gone: list[edge.PointId] = [*{*page} - {str(record.id) for record in records}]
            self._target.update(edge.UpdateOperation.delete_points(gone))
            self._put(records)

    def _put(self, records: list[edge.Record]) -> None:
        points = [edge.Point(record.id, record.vector or {}, record.payload) for record in records]
        if points:
            self._target.update(edge.UpdateOperation.upsert_points(points))
