"""Promise 1: what was answered 202 becomes remembered or rejected; and what can be seen and changed of it meanwhile."""

import base64
import io
from hashlib import sha256

import PIL.Image
import pytest

from tests.support.damaged_pictures import packed
from tests.support.running_service import Stack, fields, unique
from tests.support.shape_pictures import picture
from visual_memory.schemas.errors import NotFound
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields, ImagePatch, State
from visual_memory.schemas.removal import RemovalRequest


def test_one_picture_by_multipart_is_remembered(stack: Stack) -> None:
    data, label = picture("disc"), unique("disc")
    sent = {"labels": [label], "source": "camera-1", "subject": unique("ann"), "metadata": {"site": "north", "age": 3}}
    answer = stack.http.post(
        "/v1/images",
        files=[("files", ("disc.png", data))],
        data={"fields": fields(**sent, captured_at="2026-01-31T13:00:00+01:00")},
    )
    assert answer.status_code == 202
    image_id = sha256(data).hexdigest()
    assert answer.json()["data"] == [{"image_id": image_id, "state": "waiting", "other_labels": False}]
    stack.remembered([image_id])
    image = stack.http.get(f"/v1/images/{image_id}").json()
    assert {name: image[name] for name in sent} == sent
    assert image["captured_at"] == "2026-01-31T12:00:00Z"
    assert image["content_hash"] == image_id
    assert image["encoder"]
    assert image["reason"] is None
    assert "picture" not in image, "a key of the blob store is nobody's business"


def test_many_pictures_in_one_request_each_with_its_fields(stack: Stack) -> None:
    label, names = unique("many"), [unique("image") for _ in range(5)]
    answer = stack.http.post(
        "/v1/images",
        files=[("files", ("p", picture("bars", form))) for form in ("PNG", "JPEG", "WEBP", "GIF", "TIFF")],
        data={"fields": [fields(labels=[label, f"extra-{name}"], image_id=name) for name in names]},
    )
    assert answer.status_code == 202
    assert [each["image_id"] for each in answer.json()["data"]] == names
    images = stack.remembered(names)
    assert {name: image.labels for name, image in images.items()} == {n: [label, f"extra-{n}"] for n in names}


def test_one_part_fields_is_that_of_every_file(stack: Stack) -> None:
    label = unique("same")
    answer = stack.http.post(
        "/v1/images",
        files=[("files", ("p", picture("cross"))) for _ in range(3)],
        data={"fields": fields(labels=[label])},
    )
    assert answer.status_code == 202
    ids = [each["image_id"] for each in answer.json()["data"]]
    assert len(set(ids)) == 3
    assert all(image.labels == [label] for image in stack.remembered(ids).values())


def test_json_with_base64(stack: Stack) -> None:
    data, image_id = picture("checks"), unique("json")
    sent = {"picture": base64.b64encode(data).decode(), "labels": ["checks"], "image_id": image_id}
    answer = stack.http.post("/v1/images", json={"images": [sent]})
    assert answer.status_code == 202
    assert stack.remembered([image_id])[image_id].content_hash == sha256(data).hexdigest()
    assert stack.client.picture(image_id) == data


def test_the_same_picture_again_changes_only_labels_and_fields(stack: Stack) -> None:
    data, image_id = picture("disc"), unique("again")
    stack.teach(data, labels=["wrong"], image_id=image_id, subject="ann")
    before = stack.remembered([image_id])[image_id]
    encoded, files = stack.metric("visual_memory_batch_size_sum"), stack.picture_files()
    again = stack.client.add([(data, ImageFields(labels=["right", "also"], image_id=image_id, source="camera-2"))])
    assert again[0].state is State.REMEMBERED
    after = stack.client.image(image_id)
    said = {"labels": ["right", "also"], "source": "camera-2", "revision": after.revision}
    assert after == before.model_copy(update=said), "the subject, which was left out, stays"
    assert after.revision > before.revision
    assert stack.metric("visual_memory_batch_size_sum") == encoded
    assert stack.picture_files() == files


def test_the_same_id_with_another_picture_replaces_it(stack: Stack) -> None:
    source, image_id, other = unique("source"), unique("replaced"), unique("other")
    stack.teach(picture("disc"), labels=["disc"], image_id=image_id, source=source)
    stack.teach(picture("checks"), labels=["checks"], image_id=other, source=source)
    before = stack.remembered([image_id, other])[image_id]
    files = stack.picture_files()
    data = picture("bars")
    accepted = stack.client.add([(data, ImageFields(labels=["bars"], image_id=image_id, source=source))])
    assert accepted[0].state is State.WAITING
    after = stack.remembered([image_id])[image_id]
    assert after.content_hash == sha256(data).hexdigest() != before.content_hash
    assert after.labels == ["bars"]
    assert stack.client.picture(image_id) == data
    gone, new = files - stack.picture_files(), stack.picture_files() - files
    assert len(gone) == len(new) == 1
    answer = stack.http.post(
        "/v1/classify",
        files=[("files", ("p", data))],
        data={"options": fields(k=1, filter={"source": source}, effort="exact")},
    ).json()["decisions"][0]
    assert (answer["label"], answer["neighbours"][0]["image_id"]) == ("bars", image_id)
    assert answer["neighbours"][0]["similarity"] == pytest.approx(1, abs=1e-4)


def test_an_id_twice_in_one_request_is_as_if_sent_one_after_the_other(stack: Stack) -> None:
    image_id, first, second = unique("twice"), picture("disc"), picture("bars")
    sent = [
        (first, ImageFields(labels=["disc"], image_id=image_id)),
        (second, ImageFields(labels=["bars"], image_id=image_id)),
    ]
    assert [each.image_id for each in stack.client.add(sent)] == [image_id, image_id]
    image = stack.remembered([image_id])[image_id]
    assert (image.labels, image.content_hash) == (["bars"], sha256(second).hexdigest())


def test_a_cursor_walks_every_image_exactly_once(stack: Stack) -> None:
    source = unique("walk")
    ids = stack.teach(*(picture("disc") for _ in range(11)), labels=["walk"], source=source)
    asked: dict[str, str | int] = {"filter": fields(source=source), "limit": 4}
    pages = []
    while True:
        page = stack.http.get("/v1/images", params=asked).json()
        pages.append([image["image_id"] for image in page["data"]])
        assert page["has_more"] == (page["next_cursor"] is not None)
        if not page["has_more"]:
            break
        asked["cursor"] = page["next_cursor"]
    assert [len(page) for page in pages] == [4, 4, 3]
    assert sorted(image_id for page in pages for image_id in page) == sorted(ids)


def test_listing_by_filter(stack: Stack) -> None:
    source = unique("listed")
    cat = stack.teach(
        picture("disc"), labels=["animal/cat"], source=source, subject="tom", metadata={"age": 3, "site": "north"}
    )
    dog = stack.teach(picture("bars"), labels=["animal/dog"], source=source, metadata={"age": 9, "site": "south"})
    oak = stack.teach(picture("cross"), labels=["tree/oak"], source=source, captured_at="2026-03-01T00:00:00Z")

    def found(**conditions: object) -> set[str]:
        return set(stack.held({"source": source, **conditions}))

    assert found() == {*cat, *dog, *oak}
    assert found(labels="animal") == {*cat, *dog}
    assert found(labels="animal/cat") == set(cat)
    assert found(labels=["animal/dog", "tree"]) == {*dog, *oak}
    assert found(subject={"not": "tom"}) == {*dog, *oak}
    assert found(**{"metadata.age": {"gt": 3}}) == set(dog)
    assert found(**{"metadata.age": {"gte": 3, "lt": 9}}) == set(cat)
    assert found(**{"metadata.site": {"not": ["north", "south"]}}) == set(oak)
    assert found(captured_at={"gte": "2026-03-01T01:00:00+01:00"}) == set(oak)
    assert found(image_id=[*cat, *oak]) == {*cat, *oak}


def test_patch_changes_what_it_names(stack: Stack) -> None:
    source = unique("patched")
    [image_id] = stack.teach(picture("disc"), labels=["wrong"], source=source, subject="ann", metadata={"age": 1})
    before = stack.remembered([image_id])[image_id]
    after = stack.client.amend(image_id, ImagePatch(labels=["right/way"], metadata={"age": 2, "site": "north"}))
    assert after == stack.client.image(image_id)
    changes = {"labels": ["right/way"], "metadata": {"age": 2, "site": "north"}, "revision": after.revision}
    assert after == before.model_copy(update=changes)
    cleared = stack.http.patch(f"/v1/images/{image_id}", json={"subject": None}).json()
    assert cleared["subject"] is None
    assert cleared["source"] == source
    assert set(stack.held({"source": source, "labels": "right", "metadata.age": 2})) == {image_id}
    assert not stack.held({"source": source, "subject": "ann"})
    assert not stack.held({"source": source, "labels": "wrong"})


def test_a_vote_follows_a_changed_label_at_once(stack: Stack) -> None:
    source, data = unique("source"), picture("disc")
    [image_id] = stack.teach(data, labels=["wrong"], source=source)
    stack.remembered([image_id])
    stack.client.amend(image_id, ImagePatch(labels=["right"]))
    answer = stack.http.post(
        "/v1/classify", files=[("files", ("p", data))], data={"options": fields(filter={"source": source})}
    )
    assert answer.json()["decisions"][0]["label"] == "right"


@pytest.mark.parametrize(("kind", "named"), [("WEBP", "image/webp"), ("AVIF", "image/avif"), ("HEIF", "image/heic")])
def test_picture_and_thumbnail(stack: Stack, kind: str, named: str) -> None:
    large = packed(PIL.Image.new("RGB", (800, 400), "orange"), kind)
    [image_id] = stack.teach(large, labels=["orange"])
    assert stack.remembered([image_id])
    shown = stack.http.get(f"/v1/images/{image_id}/picture")
    assert shown.content == large
    assert shown.headers["content-type"] == named
    assert shown.headers["cache-control"] == "no-store"
    thumb = stack.http.get(f"/v1/images/{image_id}/thumbnail")
    assert thumb.headers["content-type"] == "image/jpeg"
    with PIL.Image.open(io.BytesIO(thumb.content)) as small:
        assert (small.format, small.size) == ("JPEG", (256, 128))
    assert stack.client.thumbnail(image_id) == thumb.content


def test_a_browser_keeps_a_thumbnail_for_a_while_and_then_asks_whether_it_has_changed(stack: Stack) -> None:
    [image_id] = stack.teach(picture("disc"), labels=["x"], image_id=unique("one"))
    path = f"/v1/images/{image_id}/thumbnail"
    url = str(stack.client.image(image_id).thumbnail_url)
    assert {image_id: url} == {
        each.image_id: each.thumbnail_url for each in stack.client.images(Filter({"image_id": image_id})).data
    }
    known, asked, other = (stack.http.get(each) for each in (url, path, f"{path}?v=0"))
    assert known.headers["cache-control"] == "private, max-age=300, immutable"
    assert asked.headers["cache-control"] == other.headers["cache-control"] == "private, no-cache"
    assert known.headers["vary"] == "Authorization, Cookie"
    etag = known.headers["etag"]
    assert (etag, known.content) == (asked.headers["etag"], asked.content)
    for sent in (etag, f'"x", W/{etag}', "*"):
        same = stack.http.get(path, headers={"If-None-Match": sent})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    assert stack.http.get(path, headers={"If-None-Match": '"x"'}).content == known.content

    stack.teach(picture("bars"), labels=["x"], image_id=image_id)
    changed = stack.http.get(path, headers={"If-None-Match": etag})
    assert (changed.status_code, stack.client.image(image_id).thumbnail_url == url) == (200, False)
    assert stack.http.get(url).headers["cache-control"] == "private, no-cache", "it is another picture by now"
    stack.client.remove(RemovalRequest(filter=Filter({"image_id": image_id}), reason="a test"))
    assert stack.http.get(path, headers={"If-None-Match": changed.headers["etag"]}).status_code == 404


def test_labels_are_counted(stack: Stack) -> None:
    source, often, seldom = unique("source"), unique("often"), unique("seldom")
    stack.teach(*(picture("disc") for _ in range(3)), labels=[often], source=source)
    stack.teach(picture("bars"), labels=[often, seldom], source=source)
    counts = {each.label: each.images for each in stack.client.labels().data}
    assert (counts[often], counts[seldom]) == (4, 1)
    filtered = stack.http.get("/v1/labels", params={"filter": fields(source=source)}).json()["data"]
    assert [(each["label"], each["images"]) for each in filtered] == [(often, 4), (seldom, 1)]
    assert [each.label for each in stack.client.iterate(stack.client.labels, Filter({"source": source}), limit=1)] == [
        often,
        seldom,
    ]


@pytest.mark.parametrize("path", ["", "/picture", "/thumbnail"])
def test_what_is_not_there_is_404(stack: Stack, path: str) -> None:
    answer = stack.http.get(f"/v1/images/no-such-image{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "no-such-image" in answer.json()["detail"]


def test_the_client_raises_the_error_of_the_answer(stack: Stack) -> None:
    with pytest.raises(NotFound, match="no-such-image"):
        stack.client.image("no-such-image")
    with pytest.raises(NotFound, match="no-such-image"):
        stack.client.amend("no-such-image", ImagePatch(source="x"))
    assert stack.client.images(Filter.model_validate({"image_id": "no-such-image"})).data == []
