"""Pictures are read when their turn comes, not before."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from visual_memory.schemas.image import ImageFields
from visual_memory.services.client.folders_and_manifests import PictureFile
from visual_memory.services.client.import_pictures import MAX_PICTURES, send


def test_pictures_are_found_as_they_are_sent(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"picture")
    looked, told = 0, list[int]()

    def found() -> Iterator[PictureFile]:
        nonlocal looked
        for _ in range(3 * MAX_PICTURES - 1):
            looked += 1
            yield PictureFile(tmp_path / "1.jpg", ImageFields(labels=["cat"]))

    def add(images: Sequence[tuple[bytes, ImageFields]]) -> Sequence[int]:
        return [looked] * len(images)

    sent = send(add, found(), told.append, {})
    assert looked == 0
    for turn, batch in enumerate(sent, start=1):
        assert looked == told[-1] == min(turn * MAX_PICTURES, 3 * MAX_PICTURES - 1)
        assert set(batch) == {looked}
    assert len(told) == 3
