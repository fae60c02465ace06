"""The choice of a precision and a batch size, over a network whose speed and errors are set."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from services.perception import choosing, loading
from services.perception.choosing import choose
from services.perception.loading import load_encoder
from services.perception.network import Features, Forward, Network, Precision
from services.perception.view import ALL
from services.settings import EncoderSettings

SLOW, FAST = 2.0, 1.0


@dataclass
class Model:
    """Gives the colours of a 4 x 4 grid, with an error, on a clock that it alone moves.

    Attributes:
        speed: seconds of a picture, by precision.
        error: what each number is off by, in turn up and down.
        best: the batch size that is fastest; one of half or twice the size takes a fifth longer.
    """

    speed: Mapping[str, float]
    error: float = 0.0
    best: int = 8
    now: float = 0.0
    calls: list[tuple[str, int]] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic

    @property
    def network(self) -> Network:
        return Network("model", "cpu", ALL, self.prepare, self.build)

    def prepare(self, images: Sequence[PIL.Image.Image]) -> Features:
        return {"grid": torch.from_numpy(np.stack([np.asarray(each.resize((4, 4)), np.float32) for each in images]))}

    def build(self, precision: Precision) -> Forward:
        def forward(features: Features) -> torch.Tensor:
            rows: torch.Tensor = features["grid"].flatten(1) + 1
            self.calls.append((precision, len(rows)))
            self.now += 1e-3 * self.speed[precision] * len(rows) * 1.2 ** abs(np.log2(len(rows) / self.best))
            sign = torch.tensor([1.0, -1.0]).repeat(rows.shape[1] // 2)
            return rows if precision == "float32" else rows + self.error * rows.mean() * sign

        return forward


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    model = Model({"float32": SLOW, "bfloat16": FAST})
    monkeypatch.setattr(choosing, "time", model)
    monkeypatch.setattr(loading, "_network", lambda _: model.network)
    return model


def chosen(model: Model, precision: Any = "auto", batch_size: int = 0) -> tuple[str, int]:
    choice, forward = choose(model.network, precision, batch_size)
    forward(model.prepare([PIL.Image.new("RGB", (9, 9))]))
    assert model.calls[-1] == (choice.precision, 1)
    return choice.precision, choice.batch_size


@pytest.mark.parametrize("best", [1, 4, 8, 16, 64])
def test_the_fastest_way_is_taken(model: Model, best: int) -> None:
    model.best = best
    assert chosen(model) == ("bfloat16", best)


def test_a_way_that_is_not_faster_is_not_taken(model: Model) -> None:
    model.speed = {"float32": FAST, "bfloat16": SLOW}
    assert chosen(model) == ("float32", 8)


@pytest.mark.parametrize(("error", "taken"), [(0.01, "bfloat16"), (0.2, "float32"), (np.nan, "float32")])
def test_a_way_that_disagrees_is_not_taken_and_that_is_logged(
    model: Model, caplog: pytest.LogCaptureFixture, error: float, taken: str
) -> None:
    model.error = error
    assert chosen(model) == (taken, 8)
    assert ("bfloat16 is not used" in caplog.text) == (taken == "float32")


def test_a_way_that_fails_is_not_taken_and_that_is_logged(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    model.speed = {"float32": SLOW}
    assert chosen(model) == ("float32", 8)
    assert "bfloat16 is not used: it fails with KeyError" in caplog.text


def test_settings_override_the_measurement(model: Model) -> None:
    model.error = 0.2
    assert chosen(model, "bfloat16") == ("bfloat16", 8)
    assert chosen(model, batch_size=3) == ("float32", 3)
    measured = len(model.calls)
    assert chosen(model, "bfloat16", 5) == ("bfloat16", 5)
    assert len(model.calls) == measured + 1


def test_no_other_batch_size_is_tried_when_the_time_is_over(model: Model) -> None:
    model.speed, model.best = {"float32": 1000, "bfloat16": 500}, 64
    assert chosen(model) == ("bfloat16", 8)


def test_processes_that_start_at_once_measure_once(model: Model, tmp_path: Path) -> None:
    kept = tmp_path / "new" / "encoder.json"
    with ThreadPoolExecutor(4) as starts:
        encoders = list(starts.map(lambda _: load_encoder(EncoderSettings(), kept), range(4)))
    assert {encoder.batch_size for encoder in encoders} == {8}
    ones = sum(size == 1 for _, size in model.calls)
    together = len(model.calls) - ones
    load_encoder(EncoderSettings(), tmp_path / "another.json")
    assert len(model.calls) == 2 * together + ones + 1  # each start embeds one picture, and measures at most once


def test_what_was_measured_holds_for_the_same_question_alone(model: Model, tmp_path: Path) -> None:
    kept = tmp_path / "encoder.json"
    load_encoder(EncoderSettings(), kept)
    model.best = 16
    assert load_encoder(EncoderSettings(), kept).batch_size == 8
    assert load_encoder(EncoderSettings(precision="float32"), kept).batch_size == 16
    assert load_encoder(EncoderSettings(batch_size=2), kept).batch_size == 2
    assert load_encoder(EncoderSettings(), kept).batch_size == 8


def test_what_other_code_measured_does_not_hold(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "encoder.json"
    load_encoder(EncoderSettings(), kept)
    model.best = 16
    (tmp_path / "network.py").write_text("another")
    monkeypatch.setattr(loading, "ROOM", tmp_path)
    assert load_encoder(EncoderSettings(), kept).batch_size == 16


@pytest.mark.parametrize("text", ["", '{"half', '{"model": {"precision": "none", "batch_size": 0}}'])
def test_a_damaged_file_is_measured_anew(model: Model, tmp_path: Path, text: str) -> None:
    kept = tmp_path / "encoder.json"
    load_encoder(EncoderSettings(), kept)
    good = kept.read_text()
    kept.write_text(text)
    load_encoder(EncoderSettings(), kept)
    assert kept.read_text() == good
