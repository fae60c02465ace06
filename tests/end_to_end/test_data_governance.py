"""What a data steward does besides removals: say what is held of a subject, and end a tenant."""

import json
import zipfile
from pathlib import Path

import pytest

from tests.end_to_end.test_erasure import command
from tests.support.running_service import Stack, unique
from tests.support.shape_pictures import picture
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.errors import NotAuthorized
from visual_memory.schemas.image import ImageFields
from visual_memory.services.client.http_client import Client


def test_an_export_holds_all_of_a_subject_and_nothing_of_others(stack: Stack, tmp_path: Path) -> None:
    ids = stack.teach(picture("disc"), picture("bars"), labels=["x"], subject="José", metadata={"age": 3})
    stack.remembered([*ids, *stack.teach(picture("cross"), labels=["y"], subject="bob")])
    [decision] = stack.client.classify([picture("disc")], ClassifyOptions(k=2, store=True)).decisions
    file = tmp_path / "held.zip"
    told = command(stack, "export", str(file), "--tenant", stack.tenant, "--subject", "Jose\u0301", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) == {
        "images": 2,
        "pictures": 2,
        "decisions": 1,
        "changes": 0,
        "waiting": 0,
        "refused": False,
    }
    assert file.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(file) as members:
        images = [json.loads(line) for line in members.read("images.jsonl").decode().splitlines()]
        assert {image["image_id"] for image in images} == set(ids)
        assert {image["metadata"]["age"] for image in images} == {3}
        assert len([name for name in members.namelist() if name.startswith("pictures/")]) == 2
        assert str(decision.id) in members.read("decisions.jsonl").decode()
        assert not any(b"bob" in members.read(name) for name in ("images.jsonl", "held.json"))
    again = command(stack, "export", str(file), "--tenant", stack.tenant, "--subject", "José")
    assert again.returncode == 1, "nothing is replaced"
    assert "export" in {line.action for line in stack.client.audit(subject="José").data}


def test_a_tenant_ends_with_one_receipt_and_others_stay(stack: Stack, tmp_path: Path) -> None:
    tenant = unique("north")
    with Client(stack.url, stack.new_key(tenant)) as north:
        north.add([(picture("disc"), ImageFields(labels=["x"], subject="ann"))])
        kept = stack.teach(picture("cross"), labels=["y"])
        ended = command(stack, "tenants", "end", tenant, "--reason", "the contract is over", "--yes")
        assert ended.returncode == 0, ended.stderr
        receipt = tmp_path / "receipt.json"
        receipt.write_text(ended.stdout.rstrip("\n"))
        assert command(stack, "verify-receipt", str(receipt)).returncode == 0
        with pytest.raises(NotAuthorized):
            north.images()
    assert stack.held({"image_id": kept}).keys() == set(kept)
    checked = command(stack, "verify-removals", str(receipt), "--json")
    assert json.loads(checked.stdout)["faults"] == []
    assert tenant not in command(stack, "keys", "list", "--json").stdout
