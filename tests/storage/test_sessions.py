"""The commit log and the view of all sessions: who wins, what is noticed, what is refused."""

import json
import multiprocessing
import threading
import time
from pathlib import Path

import pytest

from storage.errors import BadData, NotFound, StorageError
from storage.providers import LocalProvider, MemoryProvider
from storage.sessions import AT_ONCE, INDEX, CommitRecord, Part, SessionFolder, SessionStore
from tests.services.counting import CountingProvider

SPAWN = multiprocessing.get_context("spawn")
WRITERS = 4


def folder_in(provider=None, session_id="s1"):
    return SessionFolder(provider or MemoryProvider(), session_id)


def record_of(n, writer="w", parts=()):
    return CommitRecord(n, writer, tuple(parts))


def part_of(folder, data=b"rows", ranges=((0, 5),)):
    return folder.write_part(data, 5, list(ranges), {"ok": 5, "failed": 0, "best": [[1.5e-05, 3]], "reused": {}})


def in_processes(work, *arguments):
    """Run `work(*arguments, number, barrier, answers)` in WRITERS processes at once; what they answer, by number."""
    barrier, answers = SPAWN.Barrier(WRITERS), SPAWN.Queue()
    workers = [SPAWN.Process(target=work, args=(*arguments, i, barrier, answers)) for i in range(WRITERS)]
    for worker in workers:
        worker.start()
    found = dict(answers.get(timeout=250) for _ in workers)
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * WRITERS
    return [found[i] for i in range(WRITERS)]


def commit_twenty(root, number, barrier, answers):
    """Twenty records, each under the next number that is free; what was read on the way."""
    folder, won, seen, n = folder_in(LocalProvider(Path(root))), [], [], 0
    barrier.wait(200)
    while len(won) < 20:
        if folder.commit(record_of(n, f"{number}-{len(won)}")):
            won.append(n)
        seen.append(folder.read_commit(n).writer)
        n += 1
    answers.put((number, (won, seen)))


def test_of_several_processes_exactly_one_wins_each_number(tmp_path):
    told = in_processes(commit_twenty, str(tmp_path))
    log = [record.writer for record in folder_in(LocalProvider(tmp_path)).commits()]
    assert sorted(n for won, _ in told for n in won) == list(range(20 * WRITERS))
    for number, (won, seen) in enumerate(told):
        assert [log[n] for n in won] == [f"{number}-{i}" for i in range(20)]
        assert seen == log[: len(seen)]  # a loser reads who won, and goes on behind it


def test_a_writer_that_asks_again_recognises_its_own_record():
    folder = folder_in()
    assert folder.commit(record_of(0, "a"))
    assert folder.commit(record_of(0, "a"))
    assert not folder.commit(record_of(0, "b"))
    assert [record.writer for record in folder.commits()] == ["a"]


def test_a_record_comes_back_as_it_was():
    folder = folder_in()
    record = record_of(3, "w", [part_of(folder), part_of(folder, b"more", [(5, 6), (9, 12)])])
    assert CommitRecord.decode(record.encode(), "x") == record


def test_a_record_that_is_damaged_in_any_byte_is_refused():
    """Upper case in a number and white space leave the values as they are, and are noticed all the same."""
    folder = folder_in()
    good = record_of(0, "writer", [part_of(folder)]).encode()
    assert b"1.5e-05" in good
    damaged = [good[:i] + bytes([good[i] ^ flip]) + good[i + 1 :] for i in range(len(good)) for flip in (1, 32, 128)]
    damaged += [good[:i] for i in range(len(good))] + [good + b"\n", good.replace(b",", b", ", 1), b"[]", b"7", b""]
    for data in damaged:
        folder.provider.write("s1/commits/0000000000.json", data)
        with pytest.raises(BadData, match=r"s1/commits/0000000000\.json .*restore it from a backup"):
            folder.read_commit(0)


def test_a_record_under_another_number_is_refused():
    folder = folder_in()
    folder.provider.write("s1/commits/0000000001.json", record_of(0).encode())
    with pytest.raises(BadData, match=r"0000000001\.json says that it is number 0"):
        folder.read_commit(1)


def test_a_part_whose_bytes_changed_is_refused_and_one_that_is_gone_is_not_found():
    folder = folder_in()
    part = part_of(folder)
    assert folder.read_part(part) == b"rows"
    folder.provider.write(f"s1/{part.path}", b"rowS")
    with pytest.raises(BadData, match=f"Part {part.path} of session s1 is damaged"):
        folder.read_part(part)
    folder.provider.delete(f"s1/{part.path}")
    with pytest.raises(NotFound, match=part.path):
        folder.read_part(part)


def test_a_part_without_a_record_does_not_count():
    folder = folder_in()
    part = part_of(folder)
    assert list(folder.commits()) == []
    assert part_of(folder) == part  # writing it again is the same part
    assert folder.provider.list("s1") == [f"s1/{part.path}"]


def test_the_log_ends_at_the_first_number_that_is_missing():
    folder = folder_in()
    for n in (0, 1, 3):
        folder.commit(record_of(n))
    assert [record.n for record in folder.commits()] == [0, 1]
    assert [record.n for record in folder.commits(3)] == [3]
    assert folder.read_commit(2) is None


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "-a", "a/b", "a\\b", "a b", "a\n", "ä", "a" * 129])
def test_ids_that_are_no_plain_names_are_refused(name):
    with pytest.raises(StorageError, match="is no session id: use letters"):
        folder_in(session_id=name)


@pytest.mark.parametrize("name", ["catalog", "index.json", "latest", "Catalog"])
def test_ids_that_mean_something_else_are_refused(name):
    with pytest.raises(StorageError, match="the store uses that name itself"):
        SessionStore(MemoryProvider()).announce(name, {})


def test_documents():
    folder = folder_in()
    folder.write_document("metadata.json", {"a": "é"})
    folder.write_document("metadata.json", {"a": 2})
    assert folder.document("metadata.json") == {"a": 2}
    assert folder.create_document("summary.json", {"b": 1})
    assert not folder.create_document("summary.json", {"b": 2})
    assert folder.document("summary.json") == {"b": 1}
    with pytest.raises(NotFound):
        folder.document("trades.json")
    folder.provider.write("s1/metadata.json", b"{")
    with pytest.raises(BadData, match=r"metadata\.json of session s1 is not JSON"):
        folder.document("metadata.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_document("metadata.json", {"a": float("nan")})


def test_sessions_are_found_by_id_beginning_and_latest():
    store = SessionStore(MemoryProvider())
    with pytest.raises(NotFound, match="There is no session 'latest'"):
        store.folder("latest")
    for name in ("a1", "a1-b", "a2"):
        store.announce(name, {})
    assert [store.folder(name).session_id for name in ("a1", "a1-", "latest")] == ["a1", "a1-b", "a2"]
    for name, told in (("a", "3 sessions begin with 'a'"), ("b", "There is no session 'b'"), ("", "no session ''")):
        with pytest.raises(NotFound, match=told):
            store.folder(name)
    with pytest.raises(StorageError, match="a1 already exists"):
        store.announce("a1", {})


def index_of(provider):
    return {entry["session_id"]: entry["status"] for entry in json.loads(provider.read(INDEX))["sessions"]}


def test_the_index_shows_incomplete_finished_and_damaged_sessions():
    provider = MemoryProvider()
    store = SessionStore(provider)
    store.render_index()
    assert index_of(provider) == {}
    for name in ("begun", "done", "torn", "unreadable"):
        store.announce(name, {"session_id": name, "strategy": "x", "created_at": "2024-01-01"})
    for name in ("done", "torn"):
        store.folder(name).create_document("summary.json", {"status": "done", "metrics": {"win_rate": 0.5}})
    provider.write("torn/summary.json", b'{"status"')
    provider.write("catalog/unreadable.json", b"")
    store.render_index()
    assert index_of(provider) == {"begun": "incomplete", "done": "done", "torn": "damaged", "unreadable": "damaged"}
    done = json.loads(provider.read(INDEX))["sessions"][1]
    assert done["metrics"] == {"win_rate": 0.5}
    assert done["strategy"] == "x"


def test_a_session_that_finishes_while_the_index_is_written_is_in_it():
    """The slow renderer read the other session as incomplete, and writes after the other one has."""

    class Overtaken(MemoryProvider):
        def write(self, path, data):
            if path == INDEX and self._overtaking:
                self._overtaking.pop()()
            super().write(path, data)

    provider = Overtaken()
    object.__setattr__(provider, "_overtaking", [])
    store = SessionStore(provider)
    other = store.announce("other", {"session_id": "other"})

    def finish_the_other():
        other.create_document("summary.json", {"status": "done"})
        store.render_index()

    provider._overtaking.append(finish_the_other)
    store.render_index()
    assert index_of(provider) == {"other": "done"}


def finish_ten(root, number, barrier, answers):
    store = SessionStore(LocalProvider(Path(root)))
    barrier.wait(200)
    for i in range(10):
        folder = store.announce(f"s{number}-{i}", {"session_id": f"s{number}-{i}"})
        folder.create_document("summary.json", {"status": "done"})
        store.render_index()
    answers.put((number, None))


def test_an_index_rendered_by_many_processes_loses_no_session(tmp_path):
    in_processes(finish_ten, str(tmp_path))
    assert index_of(LocalProvider(tmp_path)) == {f"s{n}-{i}": "done" for n in range(WRITERS) for i in range(10)}


def test_parts_are_told_apart_by_content():
    folder = folder_in()
    first, second = part_of(folder, b"a"), part_of(folder, b"b")
    assert isinstance(first, Part)
    assert first.path != second.path


@pytest.mark.parametrize("spoil", [lambda t: t.replace("0.5", "0.9"), lambda t: t[:40], lambda _: "[]", lambda _: "{}"])
def test_an_index_that_was_changed_by_hand_is_made_anew(spoil):
    provider = MemoryProvider()
    store = SessionStore(provider)
    store.announce("a", {"session_id": "a"}).create_document("summary.json", {"status": "done", "rate": 0.5})
    store.render_index()
    good = provider.read(INDEX)
    provider.write(INDEX, spoil(good.decode()).encode())
    assert [entry["rate"] for entry in store.entries()] == [0.5]
    store.render_index()
    assert provider.read(INDEX) == good


def test_sessions_that_are_done_cost_no_read_of_their_own():
    counting = CountingProvider(MemoryProvider())
    store = SessionStore(counting)
    for n in range(20):
        store.announce(f"done{n}", {}).create_document("summary.json", {"status": "done"})
    store.render_index()
    store.announce("begun", {})
    counting.calls.clear()
    assert len(store.entries()) == 21
    assert counting.calls == {"LIST": 1, "GET": 1 + 2}
    counting.calls.clear()
    assert store.folder("done7").session_id == "done7"
    assert counting.calls == {"HEAD": 1}
    store.render_index()
    counting.calls.clear()
    store.render_index()
    assert counting.calls == {"LIST": 1, "GET": 1 + 1}
    for n in range(3):
        store.announce(f"a-begun{n}", {})
    counting.calls.clear()
    assert [entry["session_id"] for entry in store.entries(newest=2)] == ["done8", "done9"]
    assert counting.calls == {"LIST": 1, "GET": 1}


class Far(MemoryProvider):
    """A store far away: each read takes its time, and `most` is how many were under way at once."""

    def read(self, path):
        with LOCK:
            UNDER_WAY.append(path)
            MOST.append(len(UNDER_WAY))
        time.sleep(0.005)
        with LOCK:
            UNDER_WAY.remove(path)
        return super().read(path)


LOCK, UNDER_WAY, MOST = threading.Lock(), [], []


def test_a_long_log_is_read_ahead_in_order_and_up_to_its_end():
    MOST.clear()
    folder = folder_in(Far())
    for n in [*range(200), 201, 202]:
        assert folder.commit(CommitRecord(n, f"w{n}", ()))
    assert [record.writer for record in folder.commits()] == [f"w{n}" for n in range(200)]
    assert max(MOST) > AT_ONCE / 2
    assert [record.n for record in folder.commits(195)] == list(range(195, 200))
    half = folder.commits()
    assert [next(half).n for _ in range(100)] == list(range(100))
    half.close()  # nothing is left under way
    assert not UNDER_WAY


def test_a_damaged_record_is_met_in_its_place():
    folder = folder_in(MemoryProvider())
    for n in range(100):
        folder.commit(CommitRecord(n, "w", ()))
    folder.provider.write("s1/commits/0000000050.json", b"{}")
    read = []
    with pytest.raises(BadData, match=r"0000000050\.json"):
        read.extend(record.n for record in folder.commits())
    assert read == list(range(50))


def test_few_records_are_not_read_ahead():
    MOST.clear()
    folder = folder_in(Far())
    for n in range(3):
        folder.commit(CommitRecord(n, "w", ()))
    assert len(list(folder.commits())) == 3
    assert len(MOST) == 4
