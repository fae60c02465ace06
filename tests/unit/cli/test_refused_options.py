"""An option that would be passed over in silence is refused instead."""

import pytest
from typer.testing import CliRunner

from visual_memory.services.cli.app import app


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["add", "pictures", "--labels", "l.txt"], "--labels is for vectors"),
        (["add", "manifest.csv", "--encoder", "e"], "--encoder is for vectors"),
        (
            ["add", "v.npy", "--labels", "l.txt", "--encoder", "e", "--no-wait"],
            "--no-wait: vectors are remembered as they",
        ),
        (
            ["evaluate", "--from-neighbours", __file__, "--filter", '{"labels": "a"}', "-o", "r"],
            "--filter is of a memory",
        ),
    ],
)
def test_an_option_that_would_mean_nothing_is_refused(words: list[str], says: str) -> None:
    ended = CliRunner().invoke(app, words, env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert ended.exit_code == 2
    assert says in ended.stderr
