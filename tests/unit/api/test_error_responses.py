"""The sentence that a bad body is answered with: where the fault is, not what was sent."""

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from visual_memory.schemas.image import ImageFields
from visual_memory.services.api.error_responses import describe_faults


class Sent(BaseModel):
    model_config = ConfigDict(extra="forbid")
    images: list[ImageFields]


def fault(text: str) -> str:
    with pytest.raises(ValidationError) as caught:
        Sent.model_validate_json(text)
    return describe_faults(caught.value)


def test_names_the_place() -> None:
    assert fault('{"images": [{"labels": ["cat"]}, {"labels": []}]}').startswith("images.1.labels: ")


def test_our_own_sentences_stand_without_the_library_s_words() -> None:
    said = fault('{"images": [{"labels": [" "]}]}')
    assert said == "images.0.labels.0: must not be empty or blank"


def test_names_the_first_faults_and_counts_the_others() -> None:
    said = fault('{"images": [{}, {}, {}, {}, {}]}')
    assert said.count("Field required") == 3
    assert said.endswith("(and 2 more)")


def test_what_is_no_json_has_no_place() -> None:
    assert fault("{oops").startswith("body: Invalid JSON")


def test_does_not_repeat_what_was_sent() -> None:
    assert "a secret" not in fault('{"images": [{"labels": [7], "subject": {"a secret": 1}}]}')
