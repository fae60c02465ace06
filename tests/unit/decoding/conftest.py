"""Tests that decode for an encoder compute on one core, as the encoders' own tests do."""

from tests.unit.encoding.conftest import _one_thread

__all__ = ["_one_thread"]
