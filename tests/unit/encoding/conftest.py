"""Encoders compute on one core here, as in the service: more threads would wait for each other, and burn the cores."""

import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
