"""Promise 1 on a disk that fills: no false success, nothing dies or is lost, all goes on once there is room."""

from tests.faults.conftest import Report
from tests.faults.full_disk import fill_the_engine, fill_while_accepting, fill_while_compacting
from tests.faults.small_disk import on_small_disk

MIB = 1000


def test_the_disk_fills_while_accepting(report: Report) -> None:
    outcome = on_small_disk(fill_while_accepting, MIB)
    assert outcome["accepted"] > 20
    assert outcome["refused"] >= 8
    report(1, "disk full while accepting, over the API", outcome["refused"], 0, 0)


def test_the_disk_fills_while_embedding(report: Report) -> None:
    outcome = on_small_disk(fill_the_engine, MIB)
    assert outcome["points"] > 100
    assert outcome["embedded"] > 20
    report(1, "disk full while writing, embedding and opening", outcome["refused"], 0, 0)


def test_the_disk_fills_while_compacting(report: Report) -> None:
    outcome = on_small_disk(fill_while_compacting, MIB)
    assert outcome["refused"] == 5
    report(1, "disk full while compacting", outcome["refused"], 0, 0)
