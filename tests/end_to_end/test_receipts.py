"""Receipts over the API: bytes that stay as they were given, and that anybody checks with the public key."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.running_service import Stack, unique, until
from tests.support.shape_pictures import picture
from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import Forbidden, NotFound
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.removal import RemovalRequest, RemovalStatus
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.bootstrap.wiring.wire_receipts import signer_of
from visual_memory.services.cli.app import app
from visual_memory.services.client.http_client import Client
from visual_memory.services.receipts.mirror.mirror_files import MirrorFiles
from visual_memory.services.receipts.parse_receipt import parse_receipt
from visual_memory.services.receipts.receipt_signature import ReceiptChecker


@pytest.fixture(scope="module")
def subject() -> str:
    return unique("ann")


@pytest.fixture(scope="module")
def removal_id(stack: Stack, subject: str) -> str:
    stack.remembered(stack.teach(picture("disc"), picture("disc"), labels=["x"], subject=subject))
    request = RemovalRequest(filter=Filter({"subject": subject}), reason="asked to")
    return stack.client.remove(request).id


def test_a_receipt_is_the_same_bytes_each_time_and_valid(stack: Stack, removal_id: str, tmp_path: Path) -> None:
    answers = [stack.http.get(f"/v1/removals/{removal_id}/receipt") for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert answers[0].headers["Content-Type"] == "application/jose+json"
    key = stack.client.receipt_key()
    receipt = parse_receipt(answers[0].text, ReceiptChecker.of(key.model_dump_json()))
    assert receipt.removal == removal_id
    assert (receipt.fields["images"], receipt.fields["by_state"]) == (2, {"remembered": 2})
    (tmp_path / "key").write_text(key.model_dump_json())
    (tmp_path / "receipt").write_text(stack.client.receipt(removal_id))
    checked = ["verify-receipt", str(tmp_path / "receipt"), "--key", str(tmp_path / "key")]
    assert CliRunner().invoke(app, checked).exit_code == 0


def test_a_receipt_tells_nobody_its_filter_but_whoever_has_it(stack: Stack, removal_id: str, subject: str) -> None:
    text = stack.client.receipt(removal_id)
    said = json.dumps(parse_receipt(text, ReceiptChecker.of(stack.client.receipt_key().base64)).fields)
    assert subject not in said
    assert stack.client.is_receipt_of(removal_id, Filter({"subject": subject}))
    assert not stack.client.is_receipt_of(removal_id, Filter({"subject": f"{subject}x"}))
    twice = f'{{"filter": {{"subject": "{subject}", "subject": "{subject}"}}}}'
    headers = {"Content-Type": "application/json"}
    assert stack.http.post(f"/v1/removals/{removal_id}/check", content=twice, headers=headers).status_code == 422


def test_receipts_are_for_those_who_may_remove(stack: Stack, removal_id: str) -> None:
    with Client(stack.url, stack.new_key(None, Scope.CLASSIFY)) as reader:
        assert reader.receipt_key() == stack.client.receipt_key()
        for asked in (reader.receipt, lambda each: reader.is_receipt_of(each, Filter({}))):
            with pytest.raises(Forbidden):
                asked(removal_id)


def test_there_is_no_receipt_of_what_is_not_done(stack: Stack, removal_id: str) -> None:
    for missing in ("00000000-0000-4000-8000-000000000000", "x"):
        with pytest.raises(NotFound):
            stack.client.receipt(missing)
    with pytest.raises(NotFound, match="no such receipt yet"):
        stack.client.receipt(removal_id, erasure=True)


def test_a_mirror_that_fails_keeps_the_removal_running(spare: Stack) -> None:
    stack, mirror = spare, Path(spare.environment["VISUAL_MEMORY_REMOVALS__MIRROR"])
    stack.remembered(stack.teach(picture("disc"), labels=["x"], subject="ann"))
    request = RemovalRequest(filter=Filter({"subject": "ann"}), reason="asked to")
    removal = stack.client.remove(request, wait_seconds=0)

    def waits() -> bool:
        return (stack.client.removal(removal.id).waits_for or "").startswith("waiting for the mirror: ")

    until(waits, "the removal to say what it waits for")
    assert stack.held({"subject": "ann"}) == {}, "what it covers is gone all the same"
    assert stack.client.removal(removal.id).receipt is None
    with pytest.raises(NotFound, match="no such receipt yet"):
        stack.client.receipt(removal.id)
    readiness = stack.client.readiness()
    assert (readiness["ready"], readiness["degraded"], readiness["parts"]["mirror"]["ok"]) == (True, True, False)
    assert stack.metric("visual_memory_mirror_failures_total") >= 1

    mirror.unlink()
    until(lambda: stack.client.removal(removal.id).status is RemovalStatus.DONE, "the receipt to be given")
    text = stack.client.receipt(removal.id)
    kept = MirrorFiles(str(mirror), signer_of(load_secret(stack.settings))).entry(stack.tenant, 2)
    assert kept.entry.text == text
    assert len([digest for page in kept.pages for digest in page.tombstones]) >= 1
    assert stack.client.removal(removal.id).waits_for is None
    stack.until_ready()
