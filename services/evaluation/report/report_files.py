"""The files of a report: HTML to look at, JSON to compute with, plots, thumbnails and the neighbours."""

import json
from collections.abc import Mapping
from pathlib import Path

from visual_memory.schemas.evaluation_results import Evaluation


def write_report(evaluation: Evaluation, folder: Path) -> None:
    """Write the report into a folder, as `replace_files`."""
    replace_files(folder, report_files(evaluation))


def report_files(evaluation: Evaluation) -> dict[str, bytes]:
    """The files by their paths in the report's folder.

    ``report.html`` shows everything, ``report.json`` contains the numbers, ``neighbours.json`` the neighbours in the
    format of the paper's authors; ``plots/*.png`` and ``thumbnails/*.jpg`` are shown by the HTML.
    """
    # Plots and templates take a second and much memory to import.
    from visual_memory.services.evaluation.report import report_plots  # noqa: PLC0415
    from visual_memory.services.evaluation.report.report_page import render_page  # noqa: PLC0415

    plots = report_plots.draw(evaluation)
    return {
        "report.html": render_page(evaluation, set(plots)).encode(),
        "report.json": evaluation.model_dump_json(indent=1).encode(),
        "neighbours.json": json.dumps(evaluation.neighbours, ensure_ascii=False).encode(),
        **{f"plots/{name}.png": png for name, png in plots.items()},
        **evaluation.thumbnails,
    }


def replace_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a report's files, by their paths, into a folder, which is created if needed; replaces an earlier report."""
    if (folder / "report.json").exists():
        for old in [*folder.glob("plots/*.png"), *folder.glob("thumbnails/*.jpg")]:
            old.unlink()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
