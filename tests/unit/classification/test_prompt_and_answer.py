"""Which label a model's answer names."""

import json

import pytest

from visual_memory.services.classification.reranking.prompt_and_answer import NoAnswer, Prompt

PROMPT = Prompt(b"", (), ["cat", "Jos\u00e9"])


@pytest.mark.parametrize("spelling", ["Jos\u00e9", "Jose\u0301", " Jos\u00e9\n"], ids=ascii)
def test_another_spelling_names_the_same_label(spelling: str) -> None:
    assert PROMPT.read(f"Surely {json.dumps({'label': spelling})}.") == "Jos\u00e9"


def test_a_label_that_was_not_offered_is_no_answer() -> None:
    with pytest.raises(NoAnswer, match="no candidate"):
        PROMPT.read('{"label": "Jose"}')
