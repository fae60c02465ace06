"""The report: a folder with HTML to look at, JSON to compute with, plots, and the neighbours."""

from pathlib import Path

from schemas.evaluation import Evaluation


def write(evaluation: Evaluation, folder: Path) -> None:
    """Write the report; the folder is made if it is not there, and files of an earlier report are replaced."""
    raise NotImplementedError
