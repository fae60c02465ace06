"""What a command prints of an error before it ends with exit code 1: every fault, and no library's words."""

import pytest
import typer

from visual_memory.schemas.errors import InvalidFilter, InvalidRequest, NotFound
from visual_memory.schemas.fault import Fault
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.validation_faults import error_of_faults
from visual_memory.services.cli.exit_codes import FAILED, exit_on_error
from visual_memory.services.cli.shared_options import filter_from_options


def printed(error: Exception, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(typer.Exit) as ended, exit_on_error():
        raise error
    assert ended.value.exit_code == FAILED
    return capsys.readouterr().err


def test_every_fault_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    faults = [Fault(pointer=f"/images/{number}", code="missing", detail="must be given") for number in (0, 7)]
    assert printed(error_of_faults(InvalidRequest, faults), capsys) == (
        "there are 2 faults; the first: images.0: must be given (invalid_request)\n"
        "  images.0: must be given\n"
        "  images.7: must be given\n"
    )
    assert printed(error_of_faults(NotFound, faults[:1]), capsys) == "images.0: must be given (not_found)\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [("{x", "--filter: is not JSON: line 1, column 2"), ('{"source": {}}', "source: a range needs at least one")],
)
def test_a_filter_that_is_none_is_described_with_its_option(text: str, says: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        filter_from_options(None, None, None, None, text)
    assert caught.value.message.startswith(says)


def test_an_option_that_does_not_fit_is_described_in_own_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="labels") as caught:
        ImageFields.model_validate({"labels": [], "subject": ""})
    assert printed(caught.value, capsys) == "labels: must have at least 1 item\nsubject: must not be empty or blank\n"
