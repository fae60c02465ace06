"""A data folder of an earlier version moves to today's encoder by itself, where the settings ask for it."""

import tarfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.encoder_commands import Check, Commands, encoder_of
from tests.support.running_service import new_folder, running, until
from tests.support.shape_pictures import picture
from visual_memory.schemas.image import State

SOURCE = Path(__file__).parents[1] / "fixtures" / "data_folder_1" / "data.tar.xz"
OLD = "efficientnet-lite0"
pytestmark = [pytest.mark.one_machine, pytest.mark.timeout(300)]


def test_it_moves_by_itself_where_it_is_asked_to() -> None:
    with ExitStack() as opened:
        folder = opened.enter_context(new_folder())
        opened.enter_context(tarfile.open(SOURCE)).extractall(folder, filter="data")
        stack = opened.enter_context(running(folder / "data", ENCODER__UPGRADE="auto"))
        encoders = Commands(stack.data)
        until(lambda: encoders.active != OLD, "the upgrade", 120)
        new = encoders.active
        until(lambda: encoder_of(stack, "disc") == (new, "shape/disc"), "the switch to be seen")
        assert encoders.known()[new].preprocessing == 2
        Check(encoders)()
        encoders.encoder("switch", "--back")
        until(lambda: encoder_of(stack, "disc")[0] == OLD, "the way back to be seen")
        [image_id] = stack.teach(picture("bars"), labels=["shape/bars"])
        assert stack.remembered([image_id])[image_id].state is State.REMEMBERED
        assert encoders.active == OLD, "who switches back has decided otherwise"
