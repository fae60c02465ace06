"""Pictures are found in folders and manifests, and a bad line is named."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.services.cli.shared_options import filter_from_options
from visual_memory.services.client.folders_and_manifests import PictureFile, read_pictures


def read(where: Path, source: str | None = None) -> list[PictureFile]:
    number, found = read_pictures(where, source)
    listed = list(found)
    assert len(listed) == number
    return listed


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_s_labels_are_its_folders_paths(tmp_path: Path) -> None:
    touch(tmp_path, "animal/cat/1.jpg", "animal/cat/2.JPEG", "animal/dog/1.webp", "tree/a.tiff")
    touch(tmp_path, "lost.jpg", "tree/readme.txt", "tree/.hidden")
    found = {each.path.relative_to(tmp_path).as_posix(): each.fields for each in read(tmp_path, "camera-1")}
    assert {name: fields.labels for name, fields in found.items()} == {
        "animal/cat/1.jpg": ["animal/cat"],
        "animal/cat/2.JPEG": ["animal/cat"],
        "animal/dog/1.webp": ["animal/dog"],
        "tree/a.tiff": ["tree"],
    }
    assert {fields.source for fields in found.values()} == {"camera-1"}


def test_pictures_of_any_name_are_found_by_their_content(tmp_path: Path) -> None:
    for name in ("one", "two.jpg_large", "three.JFIF", "four.v2", "list.txt", "BMW", "paper.pdf", "film.mp4"):
        (tmp_path / "cat").mkdir(exist_ok=True)
        (tmp_path / "cat" / name).write_bytes(
            {
                "list.txt": b"one two",
                "BMW": b"BMW and others",
                "paper.pdf": b"%PDF-1.7",
                "film.mp4": b"\0\0\0\x18ftypisom\0\0\0\0",
            }.get(name, b"\xff\xd8\xff\xe0")
        )
    touch(tmp_path, *(f"dog/{name}" for name in ("1.jpe", "2.mpo", "3.heic", "4.HIF", "5.avif", "6.jxl", "empty")))
    assert {each.path.name for each in read(tmp_path)} == {
        *("one", "two.jpg_large", "three.JFIF", "four.v2"),
        *("1.jpe", "2.mpo", "3.heic", "4.HIF", "5.avif", "6.jxl"),
    }


def test_csv(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        "path,labels,image_id,source,subject,captured_at,metadata.age,metadata.site,metadata.ok,note\n"
        "a.png,animal/cat|pet,one,mine,ann,2026-01-01T00:00:00+01:00,3,north,true,ignored\n"
        '"sub/b, c.png",dog,,,,,,,,\n',
        encoding="utf-8",
    )
    first, second = read(manifest, "of-all")
    assert first.path == tmp_path / "a.png"
    assert first.fields.labels == ["animal/cat", "pet"]
    assert (first.fields.image_id, first.fields.source, first.fields.subject) == ("one", "mine", "ann")
    assert first.fields.captured_at == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert first.fields.metadata == {"age": 3, "site": "north", "ok": True}
    assert second.path == tmp_path / "sub" / "b, c.png"
    assert (second.fields.source, second.fields.image_id, second.fields.metadata) == ("of-all", None, {})


def test_jsonl(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    lines = [{"path": "a.png", "labels": ["cat"], "metadata": {"age": 3}}, {"path": "b.png", "labels": ["dog"]}]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    first, second = read(manifest)
    assert (first.path, first.fields.metadata) == (tmp_path / "a.png", {"age": 3})
    assert second.fields.labels == ["dog"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("m.csv", "path,labels\na.png,cat\n,dog\n", "line 3: no path"),
        ("m.csv", "path,labels\na.png,\n", "line 2: labels"),
        ("m.csv", "path,labels,image_id\na.png,cat,../x\n", "line 2: image_id"),
        ("m.csv", "labels\ncat\n", "line 2: no path"),
        ("m.csv", "path,labels\n", "no pictures"),
        ("m.csv", "", "no pictures"),
        ("m.jsonl", '{"path": "a.png", "labels": ["cat"]}\n{oops\n', "line 2: not JSON"),
        ("m.jsonl", "[]\n", "line 1: not an object"),
        ("m.jsonl", '{"labels": ["cat"]}\n', "line 1: no path"),
        ("m.jsonl", '{"path": "a.png", "labels": ["cat"], "colour": "red"}\n', "line 1: colour"),
        ("m.jsonl", "", "no pictures"),
        ("m.txt", "a.png cat\n", "ends in .csv or .jsonl"),
    ],
)
def test_a_bad_manifest_is_told_with_its_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest) as caught:
        read(tmp_path / name)
    assert says in caught.value.message
    assert name in caught.value.message


def test_a_blank_line_at_the_end_of_jsonl_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"path": "a.png", "labels": ["cat"]}\n\n', encoding="utf-8")
    assert len(read(tmp_path / "m.jsonl")) == 1


def test_a_folder_without_pictures_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "only-here.jpg")
    with pytest.raises(InvalidRequest, match="LABEL"):
        read(tmp_path)


def test_a_folder_that_is_no_label_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "ca\u200bt/1.jpg")
    with pytest.raises(InvalidRequest, match="labels"):
        read(tmp_path)


def test_a_mistake_in_the_last_line_is_told_before_there_is_a_first_picture(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,labels\na.png,cat\nb.png,\n")
    with pytest.raises(InvalidRequest, match="line 3"):
        read_pictures(manifest, None)


def test_a_link_to_a_folder_leads_nowhere(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg")
    (tmp_path / "cat" / "round").symlink_to(tmp_path, target_is_directory=True)
    assert len(read(tmp_path)) == 1


def test_what_is_there_twice_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"path": "a.png", "labels": ["x"], "subject": "a", "subject": "b"}\n')
    with pytest.raises(InvalidRequest, match=r"line 1: subject: this key is given twice"):
        read(tmp_path / "m.jsonl")
    (tmp_path / "m.csv").write_text("path,labels,subject,subject\na.png,x,a,b\n")
    with pytest.raises(InvalidRequest, match="'subject' occurs twice"):
        read(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("path,labels, Subject\na.png,x,a\n")
    with pytest.raises(InvalidRequest, match="' Subject' is spelt 'subject'"):
        read(tmp_path / "m.csv")


def test_a_field_that_an_option_names_is_named_once() -> None:
    with pytest.raises(InvalidRequest, match="subject is named by an option too"):
        filter_from_options(["ann"], None, None, None, '{"subject": {"not": "ann"}}')


def test_a_table_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "m.csv").write_text("\ufeffpath,labels\na.png,cat\n")
    assert len(read(tmp_path / "m.csv")) == 1
