"""The owner process: what is put outlives it, and its callers outlive it too."""

import multiprocessing
import signal
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path
from typing import cast

import pytest

from tests.support.memory_images import DIMENSION, ENCODER, METADATA, Owner, clauses, image, units
from tests.support.running_service import until
from visual_memory.schemas.classify_options import Effort
from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.image import State
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.memory.points.point_filters import marked_by, within
from visual_memory.services.settings import StoreSettings
from visual_memory.services.vector_engines.engine_contract import PointFilter, Search
from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient
from visual_memory.services.vector_engines.engine_owner_protocol import Message, key_file
from visual_memory.services.vector_engines.open_engine import open_engine
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine


def opened(owner: Owner, timeout: float = 30) -> Memory:
    memory = Memory(EngineOwnerClient(owner.socket, timeout), ENCODER, DIMENSION, METADATA)
    memory.open()
    return memory


def test_what_was_put_outlives_a_kill(folder: Path) -> None:
    images = [image("t", f"i{n}") for n in range(40)]
    with Owner(folder) as owner:
        memory = opened(owner.ready())
        memory.writes.put(images)
        memory.embeddings.store(images[:20], units(20))
        memory.writes.delete(images[30:])
        memory.embeddings.store(images, units(40))  # ten of them are gone
        memory.marks.mark("t", clauses(image_id=["i28", "i29"]), "r")
        owner.kill()
        owner.start()
        assert memory.images.count_by_state("t") == {State.REMEMBERED: 30}
        assert memory.images.count("t", [marked_by("r")]) == 2
        assert [hits[0].image_id for hits in memory.search.nearest("t", units(40)[:28], 1)] == [
            f"i{n}" for n in range(28)
        ]
        memory.close()


def test_a_kill_in_the_middle_of_writes_loses_nothing_acknowledged(folder: Path) -> None:
    acknowledged: list[str] = []
    with Owner(folder) as owner:
        memory = opened(owner.ready())
        stop = threading.Event()

        def write(number: int) -> None:
            n = 0
            while not stop.is_set():
                name = f"{number}-{n}"
                memory.writes.put([image("t", name)])
                acknowledged.append(name)
                n += 1

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            more = len(acknowledged) + 20
            until(lambda more=more: len(acknowledged) >= more, "some to be acknowledged")  # type: ignore[misc]
            owner.kill()
            owner.start()
        memory.ping()
        stop.set()
        for thread in threads:
            thread.join()
        assert memory.images.get("t", acknowledged).keys() == set(acknowledged)
        memory.close()


def test_a_stopped_owner_ends_well_and_its_callers_go_on_with_the_next(folder: Path) -> None:
    with Owner(folder) as owner:
        memory = opened(owner.ready())
        results: list[int] = []

        def write() -> None:
            for n in range(60):
                memory.writes.put([image("t", f"i{n}")])
                results.append(n)

        thread = threading.Thread(target=write)
        thread.start()
        time.sleep(0.05)
        assert owner.stop() == 0
        assert not owner.socket.exists()
        owner.start()
        thread.join()
        assert len(results) == 60
        assert memory.images.count("t") == 60
        memory.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0(folder: Path, number: signal.Signals) -> None:
    with Owner(folder) as owner:
        owner.ready()
        assert owner.process is not None
        owner.process.send_signal(number)
        assert owner.process.wait(60) == 0


def test_a_signal_that_does_not_wake_the_main_thread_ends_it_too(folder: Path) -> None:
    """As one that comes just before the main thread begins to wait: here another thread gets it."""
    prelude = (
        "import signal, threading, time;"
        "listening = iter(Path(sys.argv[2]).exists, True);"
        "end = lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM);"
        "threading.Thread(target=lambda: ([time.sleep(0.05) for _ in listening], end()), daemon=True).start()"
    )
    with Owner(folder, prelude=prelude) as owner:
        owner.start()
        assert owner.process is not None
        assert owner.process.wait(60) == 0


def answers(memory: Memory) -> bool:
    """Whether it did within its timeout, which is short."""
    try:
        memory.ping()
    except Unavailable:
        return False
    return True


def test_an_owner_that_hangs_is_unavailable(folder: Path) -> None:
    with Owner(folder) as owner:
        patient = opened(owner.ready())
        memory = Memory(EngineOwnerClient(owner.socket, timeout=1), ENCODER, DIMENSION, METADATA)
        assert owner.process is not None
        until(lambda: answers(memory), "a connection for the pool")
        owner.suspend()
        large = [image("t", f"i{n}", metadata={"camera": "x" * 1000}) for n in range(2000)]
        for call in (
            memory.ping,
            memory.ping,
            lambda: memory.writes.put(large),
        ):  # pooled, new, and larger than the buffers
            with pytest.raises(Unavailable, match="within 1 s"):
                call()
        owner.process.send_signal(signal.SIGCONT)
        patient.writes.put(large)  # the answers to the calls that were given up reach nobody
        assert patient.images.count("t") == 2000
        for each in (memory, patient):
            each.close()


def test_a_long_search_is_waited_for_while_the_owner_answers_others(folder: Path) -> None:
    prelude = (
        "import time; from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine;"
        " search = EdgeEngine.query_batch;"
        "EdgeEngine.query_batch = lambda *given: (time.sleep(7), search(*given))[1]"
    )
    with Owner(folder, prelude=prelude) as owner:
        memory = opened(owner.ready())
        memory.writes.put([image("t", "a")])
        given = (6.0, 600.0), (0.5, 0.0), (0.5, 600.0)
        patient, hasty, alone = (EngineOwnerClient(owner.socket, *timeouts) for timeouts in given)
        asked = units(1), Search(vector_name(ENCODER), within("t"), 1, Effort.EXACT, ())
        assert len(patient.query_batch(*asked)) == 1
        with pytest.raises(Unavailable, match=r"within 0\.5 s"):
            hasty.query_batch(*asked)
        owner.suspend()
        with pytest.raises(Unavailable, match=r"within 0\.5 s"):
            alone.query_batch(*asked)
        for each in (patient, hasty, alone, memory):
            each.close()


def test_a_silent_owner_is_told_within_one_timeout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the deadlines that are given: a search that may take longer asks in time whether others are served."""
    asked: list[tuple[str, float]] = []
    ask = EngineOwnerClient._send

    def noted(engine: EngineOwnerClient, message: Message, deadline: float, longer: float = 0.0) -> object:
        asked.append((message[0], deadline))
        return ask(engine, message, deadline, longer)

    with Owner(folder) as owner:
        memory = opened(owner.ready())
        engine = EngineOwnerClient(owner.socket, 60, search_timeout=1000.0)
        engine.ping()
        engine._timeout = 0.4
        owner.suspend()
        monkeypatch.setattr(EngineOwnerClient, "_send", noted)
        with pytest.raises(Unavailable, match=r"within 0\.4 s"):
            engine.query_batch(units(1), Search(vector_name(ENCODER), within("t"), 1, Effort.EXACT, ()))
        with pytest.raises(Unavailable, match=r"within 0\.4 s"):
            engine.count(within("t"))
        assert [name for name, _ in asked] == ["query_batch", "ping", "count"]
        assert asked[1][1] == asked[0][1], "the look has what is left of the search's own time"
        for each in (engine, memory):
            each.close()


def test_nobody_waits_for_calls_that_hang(folder: Path) -> None:
    prelude = (
        "import threading, uuid; from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine;"
        " folder = Path(sys.argv[1]);"
        "EdgeEngine.count = lambda *given: ((folder / f'hangs-{uuid.uuid4()}').touch(), threading.Event().wait())"
    )
    with Owner(folder, prelude=prelude) as hanging, Owner(folder) as sound:
        memory = opened(hanging.ready())
        engine = EngineOwnerClient(hanging.socket, timeout=60)
        with ThreadPoolExecutor(20) as threads:
            counts = [threads.submit(engine.count, within("t")) for _ in range(20)]
            until(lambda: len(list(hanging.data.glob("hangs-*"))) == 20, "all to hang")
            for _ in range(20):
                engine.ping()
            assert not any(count.done() for count in counts)
            hanging.kill()
            sound.start()
            assert [count.result() for count in counts] == [0] * 20
        engine.close()
        memory.close()


def test_no_owner_is_unavailable(folder: Path) -> None:
    start = time.monotonic()
    with pytest.raises(Unavailable):
        EngineOwnerClient(folder / "s", timeout=0.3).ping()
    assert time.monotonic() - start >= 0.3


def test_a_call_before_the_collection_is_created_is_unavailable(folder: Path) -> None:
    with Owner(folder) as owner:
        engine = EngineOwnerClient(owner.ready().socket, timeout=30)
        assert engine.inspect() is None
        with pytest.raises(Unavailable, match="not created"):
            engine.count(within("t"))
        engine.close()


def test_errors_keep_their_class_and_leave_the_connection_whole(folder: Path) -> None:
    with Owner(folder) as owner:
        memory = opened(owner.ready())
        engine = EngineOwnerClient(owner.socket, timeout=30)
        with pytest.raises(AttributeError):
            engine.count(cast(PointFilter, "no filter"))
        with pytest.raises(ValueError, match="UUID"):
            engine.retrieve(["no point id"])
        engine.ping()
        engine.close()
        memory.close()


def test_only_the_contract_can_be_called(folder: Path) -> None:
    with Owner(folder) as owner:
        owner.ready()
        key = key_file(owner.socket).read_bytes()
        with Client(str(owner.socket), authkey=key) as connection:
            for name in ("close", "_open", "__init__", "nothing"):
                connection.send((name, (), {}))
                well, error = connection.recv()
                assert not well
                assert isinstance(error, TypeError)


def test_a_stranger_is_refused_and_disturbs_nobody(folder: Path) -> None:
    with Owner(folder) as owner:
        owner.ready()
        with pytest.raises(AuthenticationError):
            Client(str(owner.socket), authkey=b"wrong")
        key = key_file(owner.socket).read_bytes()
        with Client(str(owner.socket), authkey=key) as connection:
            connection.send_bytes(b"no pickle")
            with pytest.raises(EOFError):
                connection.recv()
        EngineOwnerClient(owner.socket, timeout=60).ping()


def test_socket_and_key_are_for_this_user_alone(folder: Path) -> None:
    with Owner(folder) as owner:
        owner.ready()
        for path in (owner.socket, key_file(owner.socket)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_owner_is_refused_and_leaves_the_first_alone(folder: Path) -> None:
    with Owner(folder) as first, Owner(folder) as second:
        first.ready()
        second.start()
        assert second.process is not None
        assert second.process.wait(60) != 0
        EngineOwnerClient(first.socket, timeout=60).ping()


def test_a_folder_is_held_by_one_engine(folder: Path) -> None:
    engine = EdgeEngine(folder)
    with pytest.raises(Unavailable, match="another process"):
        EdgeEngine(folder)
    engine.close()
    EdgeEngine(folder).close()


def test_a_path_too_long_for_a_socket_is_told(folder: Path) -> None:
    with pytest.raises(Unavailable, match="100 bytes"):
        open_engine(StoreSettings(), folder / ("x" * 100), 1)


def test_a_fork_does_not_share_its_parents_connections(folder: Path) -> None:
    def count(tenant: str) -> None:
        for _ in range(200):
            assert memory.images.count(tenant) == {"a": 1, "b": 2}[tenant]

    with Owner(folder) as owner:
        memory = opened(owner.ready())
        memory.writes.put([image("a", "one"), image("b", "one"), image("b", "two")])
        child = multiprocessing.get_context("fork").Process(target=count, args=("b",))
        child.start()
        count("a")
        child.join(60)
        assert child.exitcode == 0
        memory.close()


def test_half_a_creation_is_begun_anew(folder: Path) -> None:
    """A kill in the middle of creating leaves a draft, which is removed."""
    draft = folder / "shard-of-a-killed-owner"
    (draft / "segments").mkdir(parents=True)
    (draft / "edge_config.json").write_text("{")
    engine = EdgeEngine(folder)
    assert not draft.exists()
    Memory(engine, ENCODER, DIMENSION, METADATA).open()
    engine.close()
    again = EdgeEngine(folder)
    shape = again.inspect()
    assert shape is not None
    assert list(shape.vectors.values()) == [DIMENSION]
    again.close()
