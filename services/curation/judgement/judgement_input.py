"""The images that a judgement was made of, with the neighbours of each: what the next judgement begins with."""

import io
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from visual_memory.services.curation.judgement.neighbour_lists import Mask, NeighbourLists

Digests = NDArray[np.uint64]


@dataclass(frozen=True)
class JudgementInput:
    """Images with their neighbours, by ascending id, so that nothing depends on when they came.

    Attributes:
        read_at: when the pass began to read them.
        image_ids: of n images.
        labels: of the same images.
        pictures: uint64 [n], digests of the keys of their pictures: what tells an image from another that comes under
            the same id, as a key is new each time.
        contents: uint64 [n], digests of their content hashes: copies of one content share one vote.
        votes: [n], whether each image votes. Those that do not were muted for their wrong votes; they stay, so that it
            can be told whether these count still.
        lists: the neighbours of each, whether they vote or not.
    """

    read_at: datetime
    image_ids: Sequence[str]
    labels: Sequence[list[str]]
    pictures: Digests
    contents: Digests
    votes: Mask
    lists: NeighbourLists

    @classmethod
    def of_none(cls, read_at: datetime) -> "JudgementInput":
        """Of a memory without images."""
        nothing = np.empty(0, np.uint64)
        return cls(read_at, [], [], nothing, nothing, np.empty(0, bool), NeighbourLists.of_none())

    def where(self, stays: Mask) -> "JudgementInput":
        """Those images alone; the neighbours of each are those that stay."""
        if stays.all():
            return self
        return replace(
            self,
            image_ids=[image_id for image_id, each in zip(self.image_ids, stays, strict=True) if each],
            labels=[labels for labels, each in zip(self.labels, stays, strict=True) if each],
            pictures=self.pictures[stays],
            contents=self.contents[stays],
            votes=self.votes[stays],
            lists=self.lists.without(stays),
        )

    def voting(self) -> "JudgementInput":
        """Those that vote."""
        return self.where(self.votes)

    def places(self) -> dict[str, int]:
        """The row of each image, by its id."""
        return {image_id: row for row, image_id in enumerate(self.image_ids)}

    def without(self, image_ids: Collection[str]) -> "JudgementInput":
        """Those that are left where some are gone."""
        gone = {*image_ids}
        return self.where(np.fromiter((each not in gone for each in self.image_ids), bool, len(self.image_ids)))

    def to_bytes(self) -> bytes:
        """All of it in the format of `numpy.savez`; no image's vector is in it."""
        named = {"read_at": self.read_at.isoformat(), "image_ids": list(self.image_ids), "labels": list(self.labels)}
        file = io.BytesIO()
        np.savez(
            file,
            named=np.frombuffer(json.dumps(named, ensure_ascii=False).encode(), np.uint8),
            pictures=self.pictures,
            contents=self.contents,
            votes=self.votes,
            similarities=self.lists.similarities,
            rows=self.lists.rows,
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "JudgementInput":
        """What `to_bytes` gave.

        Raises:
            ValueError, KeyError, zipfile.BadZipFile: it is anything else.
        """
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            named = json.loads(held["named"].tobytes())
            lists = NeighbourLists(held["similarities"], held["rows"])
            return cls(
                datetime.fromisoformat(named["read_at"]),
                named["image_ids"],
                named["labels"],
                held["pictures"],
                held["contents"],
                held["votes"],
                lists,
            )


def short_digest(text: str) -> np.uint64:
    """Eight bytes by which a picture's key, or a content hash, is known again."""
    return np.uint64(int.from_bytes(blake2b(text.encode(), digest_size=8).digest()))
