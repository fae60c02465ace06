"""The report: what is in the folder, and that names in it are text and nothing else."""

import io
import json
import re
from pathlib import Path

import PIL.Image
import pytest

from tests.support.random_memory import labelled, silent
from visual_memory.schemas.classify_options import Effort
from visual_memory.schemas.evaluation_results import Evaluation, EvaluationOptions
from visual_memory.services.evaluation.compute_evaluation import evaluate, evaluate_neighbours
from visual_memory.services.evaluation.neighbour_matrix import LabelledVectors, Vectors
from visual_memory.services.evaluation.report.report_files import write_report

HOSTILE = "<script>alert(1)</script> $x_$ 猫"


def jpeg(_image_id: str, query: bool) -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), "red" if query else "blue").save(out, "JPEG")
    return out.getvalue()


@pytest.fixture(scope="module")
def found() -> Evaluation:
    memory, queries = labelled(40, seed=1), labelled(20, seed=2, name="query")
    memory = LabelledVectors(
        memory.ids, [[label.replace("owl", HOSTILE) for label in some] for some in memory.labels], memory.vectors
    )

    def first(vectors: Vectors, k: int, _: Effort) -> list[list[str]]:
        return [list(memory.ids[:k])] * len(vectors)

    options = EvaluationOptions(k=5, k_max=20)
    return evaluate(memory, queries, options, silent, encoder="an-encoder", approximate=first, thumbnail=jpeg)


@pytest.fixture(scope="module")
def folder(found: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("report") / "new"
    write_report(found, where)
    return where


def test_everything_that_the_page_shows_is_there(found: Evaluation, folder: Path) -> None:
    page = (folder / "report.html").read_text()
    shown = set(re.findall(r'src="([^"]+)"', page))
    assert shown >= {f"plots/{name}.png" for name in ("accuracy", "calibration", "confusion", "scaling", "recall")}
    assert shown >= found.thumbnails.keys()
    assert found.sets is not None
    assert [f"{each.covered:.1%}".replace("%", " %") in page for each in found.sets] == [True] * 3
    for name in shown:
        PIL.Image.open(folder / name).verify()
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == shown | {"report.html", "report.json", "neighbours.json"}


def test_the_numbers_come_back(found: Evaluation, folder: Path) -> None:
    numbers = json.loads((folder / "report.json").read_text())
    assert (
        Evaluation.model_validate({**numbers, "neighbours": found.neighbours, "thumbnails": found.thumbnails}) == found
    )
    assert json.loads((folder / "neighbours.json").read_text()) == found.neighbours


def test_labels_are_text(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_same_numbers_give_the_same_bytes_and_an_earlier_report_is_gone(
    found: Evaluation, folder: Path, tmp_path: Path
) -> None:
    write_report(found, tmp_path)
    for path in folder.rglob("*.*"):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name
    write_report(evaluate_neighbours(found.neighbours, found.options, silent), tmp_path)
    assert not list(tmp_path.glob("thumbnails/*"))
    assert not (tmp_path / "plots" / "scaling.png").exists()
