"""Files of vectors are read in chunks, each vector with what its line or row says."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from visual_memory.schemas.errors import Blocked, InvalidRequest
from visual_memory.schemas.image import Accepted, ImageFields, State
from visual_memory.schemas.labels import LabelRule
from visual_memory.services.client import import_vectors
from visual_memory.services.client.import_pictures import ImportResult
from visual_memory.services.vector_engines.engine_contract import Vectors

ROWS = np.arange(40, dtype=np.float32).reshape(10, 4)
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Told:
    """Takes vectors as the client does, but for those with a label that is blocked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Vectors, list[ImageFields]]] = []

    def add_vectors(
        self, encoder: str, vectors: Vectors, fields: list[ImageFields], labels: LabelRule
    ) -> list[Accepted]:
        assert (encoder, labels) == ("e", LabelRule.KEEP)
        if any("bad" in each.labels for each in fields):
            raise Blocked("no")
        self.calls.append((vectors, fields))
        return [Accepted(image_id="x", state=State.REMEMBERED)] * len(fields)


def teach(file: Path, labels: Path | None = None, encoder: str | None = "e") -> tuple[ImportResult, list[Any]]:
    client: Any = Told()
    outcome = import_vectors.teach_vectors(client, file, labels, encoder, "somewhere", lambda *_: None)
    calls = sorted(client.calls, key=lambda call: float(call[0][0, 0]))
    sent = np.concatenate([vectors for vectors, _ in calls]) if calls else np.empty((0, 4))
    assert sent.dtype == np.float32
    return outcome, [
        (row.tolist(), each) for row, each in zip(sent, [f for _, said in calls for f in said], strict=True)
    ]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_vectors, "MAX_ROWS", 3)


def saved(folder: Path, rows: Any = ROWS) -> Path:
    np.save(folder / "v.npy", rows)
    return folder / "v.npy"


def labelled(folder: Path, text: str, name: str = "l.txt") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("rows", [ROWS, ROWS.astype(np.float64), np.asfortranarray(ROWS)])
def test_npy_with_a_label_a_line(tmp_path: Path, rows: Any) -> None:
    labels = labelled(tmp_path, "".join(f"class/{n}\n" for n in range(10)))
    outcome, sent = teach(saved(tmp_path, rows), labels)
    assert (outcome.sent, outcome.remembered, outcome.refused) == (10, 10, {})
    assert [row for row, _ in sent] == ROWS.tolist()
    assert [each.labels for _, each in sent] == [[f"class/{n}"] for n in range(10)]
    assert {each.source for _, each in sent} == {"somewhere"}


def test_npy_with_csv_and_jsonl(tmp_path: Path) -> None:
    csv = labelled(tmp_path, "labels,image_id,metadata.age\n" + "cat|dog,a,3\n" * 10, "l.csv")
    jsonl = labelled(tmp_path, '{"labels": ["cat", "dog"], "image_id": "a", "metadata": {"age": 3}}\n' * 10, "l.jsonl")
    for labels in (csv, jsonl):
        _, sent = teach(saved(tmp_path), labels)
        said = {"labels": ["cat", "dog"], "image_id": "a", "metadata": {"age": 3}, "source": "somewhere"}
        assert [each for _, each in sent] == [ImageFields.model_validate(said)] * 10


def test_those_that_are_refused_stay_out_alone(tmp_path: Path) -> None:
    labels = labelled(tmp_path, "".join("bad\n" if n in {0, 7} else "good\n" for n in range(10)))
    outcome, sent = teach(saved(tmp_path), labels)
    assert (outcome.remembered, outcome.refused) == (8, {"row 0": "no", "row 7": "no"})
    assert [row for row, _ in sent] == np.delete(ROWS, [0, 7], axis=0).tolist()


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64()), pa.list_(pa.float32(), 4)])
def test_parquet(tmp_path: Path, kind: Any) -> None:
    columns = {
        "vector": pa.array(ROWS.tolist(), kind),
        "label": ["cat"] * 10,
        "image_id": [f"i{n}" for n in range(9)] + [None],
        "captured_at": [MOMENT] * 10,
        "source": ["here"] + [None] * 9,
        "metadata.age": list(range(10)),
    }
    parquet.write_table(pa.table(columns), tmp_path / "v.parquet", row_group_size=5)
    outcome, sent = teach(tmp_path / "v.parquet")
    assert outcome.remembered == 10
    assert [row for row, _ in sent] == ROWS.tolist()
    first, last = sent[0][1], sent[-1][1]
    assert (first.image_id, first.source, first.captured_at, first.metadata) == ("i0", "here", MOMENT, {"age": 0})
    assert (last.image_id, last.source, last.labels) == (None, "somewhere", ["cat"])


def test_parquet_with_lists_of_labels(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"vector": ROWS.tolist(), "labels": [["a", "b/c"]] * 10}), tmp_path / "v.parquet")
    _, sent = teach(tmp_path / "v.parquet")
    assert [each.labels for _, each in sent] == [["a", "b/c"]] * 10


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"label": ["a"]}, "a column 'vector'"),
        ({"vector": ["a"], "label": ["a"]}, "it is string"),
        ({"vector": [[1, 2]], "label": ["a"]}, "it is list"),
        ({"vector": [[1.0], [1.0, 2.0]], "label": ["a", "a"]}, "of other lengths"),
        ({"vector": [[1.0], None], "label": ["a", "a"]}, "are missing"),
        ({"vector": [[1.0, None]], "label": ["a"]}, "are missing"),
        ({"vector": [[1.0]], "label": ["a"], "colour": ["red"]}, "row 0: colour: is no field"),
        ({"vector": [[1.0]], "label": [None]}, "row 0: labels: must be given"),
        ({"vector": [[1.0]], "label": ["a"], "labels": [["b"]]}, "row 0: label is in two columns"),
    ],
)
def test_a_parquet_file_that_is_not_right_is_named(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "v.parquet")
    with pytest.raises(InvalidRequest, match=says):
        teach(tmp_path / "v.parquet")


def test_what_is_wrongly_given_is_named(tmp_path: Path) -> None:
    file, labels = saved(tmp_path), labelled(tmp_path, "cat\n" * 9)
    broken = labelled(tmp_path, "", "v.parquet")
    pickled = tmp_path / "p.npy"
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    flat = tmp_path / "flat.npy"
    np.save(flat, ROWS[0])
    for given, says in (
        ((file, labels), "has 10 vectors, .* has 9 lines"),
        ((file, None), "--labels"),
        ((file, labels, None), "--encoder"),
        ((file, file), "labels come in a file that ends in .txt, .csv, .jsonl"),
        ((broken, None), "v.parquet"),
        ((broken, labels), "are a column of it"),
        ((pickled, labels), "p.npy"),
        ((flat, labels), "an array of floats"),
    ):
        with pytest.raises(InvalidRequest, match=says):
            teach(*given)  # some are wrong on purpose
