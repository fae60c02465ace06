"""`visual-memory evaluate --from-neighbours`: no service, a file in and a folder out."""

import json
from pathlib import Path

from typer.testing import CliRunner

from visual_memory.services.cli.app import app


def test_neighbours_in_and_a_report_out(tmp_path: Path) -> None:
    entry = {
        "featurizer": "dinov2_vits14",
        "image_id": "q",
        "image_class": 3,
        "neighbor_image_ids": ["a", "b"],
        "neighbor_classes": [3, 5],
        "neighbor_distances": [0.1, 0.2],
    }
    file, output = tmp_path / "authors.json", tmp_path / "report"
    file.write_text(json.dumps({"q": entry, "r": {**entry, "image_class": 5}}))
    arguments = ["evaluate", "--from-neighbours", str(file), "--output", str(output)]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    assert "50.0% right" in ran.output
    numbers = json.loads((output / "report.json").read_text())
    assert numbers["curves"][0]["accuracy"] == [0.5, 0.5]
    assert (output / "report.html").exists()


def test_another_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "authors.json"
    file.write_text('{"q": {"featurizer": "dinov2_vits14"}}')
    ran = CliRunner().invoke(app, ["evaluate", "--from-neighbours", str(file), "--output", str(tmp_path / "report")])
    assert ran.exit_code == 1
    assert "q.image_id: must be given" in ran.output
    assert not (tmp_path / "report").exists()
