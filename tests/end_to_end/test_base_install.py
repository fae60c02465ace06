"""The commands of a client, run with the packages of the base install alone."""

import json
from pathlib import Path

from tests.support.base_install import COMMAND, run_with_base
from tests.support.running_service import Stack, unique
from tests.support.shape_pictures import picture

KINDS = ("disc", "bars")
NUMBER = 3


def test_a_client_teaches_asks_and_removes(stack: Stack, tmp_path: Path) -> None:
    environment = {"VISUAL_MEMORY_URL": stack.url, "VISUAL_MEMORY_KEY": stack.new_key(unique("base"))}

    def run(*words: str, also: tuple[str, ...] = ()) -> str:
        ended = run_with_base(COMMAND, *words, also=also, environment=environment, folder=tmp_path)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    for kind in KINDS:
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        for number in range(NUMBER):
            (tmp_path / "pictures" / kind / f"{number}.png").write_bytes(picture(kind))
    assert json.loads(run("add", "pictures", "--json"))["remembered"] == len(KINDS) * NUMBER
    assert "disc" in run("classify", "pictures/disc/0.png", "-k", "3")
    assert "ok" in run("status")
    assert "bars" in run("labels")
    run("audit")
    removal = json.loads(run("remove", "--label", "disc", "--reason", "a test", "--yes", "--json"))
    (tmp_path / "receipt").write_text(run("receipts", "get", removal["id"]))
    (tmp_path / "key").write_text(stack.client.receipt_key().model_dump_json())
    assert "valid" in run("verify-receipt", "receipt", "--key", "key", also=("joserfc",))
