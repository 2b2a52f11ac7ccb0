"""Cleaning up: what no record names goes, everything that one names stays, and in doubt all of it stays."""

import os
import time

import pytest

from storage.clock import StoreClock
from storage.providers import LocalProvider, local
from storage.pruning import LOOK_EVERY, prune
from storage.sessions import CommitRecord, SessionFolder

HOUR = 3600.0


@pytest.fixture
def folder(tmp_path):
    """A session with a part that is committed, one that is not, and one of another session; all of them old."""
    provider = LocalProvider(tmp_path)
    folder = SessionFolder(provider, "s1")
    folder.commit(CommitRecord(0, "w", (folder.write_part(b"named", 1, [(0, 1)], {}),)))
    folder.write_part(b"nameless", 1, [(1, 2)], {})
    SessionFolder(provider, "s2").write_part(b"theirs", 1, [(0, 1)], {})
    (tmp_path / "s1/trials/.tmp-dead").write_bytes(b"half a part")
    age(tmp_path, 2 * HOUR)
    return folder


def age(root, seconds):
    for file in root.rglob("*"):
        os.utime(file, (time.time() - seconds,) * 2)


def nobody(_):
    return False


def test_what_nobody_names_is_found_and_removed_when_asked(folder):
    before = folder.provider.list()
    found = prune(folder.provider, HOUR, nobody, delete=False)
    assert folder.provider.list() == before
    assert found.temporary == ["s1/trials/.tmp-dead"]
    assert [path.partition("/")[0] for path in found.parts] == ["s1", "s2"]
    assert found.kept == {}
    assert prune(folder.provider, HOUR, nobody, delete=True) == found
    assert folder.provider.list() == sorted(set(before) - set(found.parts))
    assert prune(folder.provider, HOUR, nobody, delete=True).parts == []
    assert folder.provider.leftovers(0.0) == []
    assert [folder.read_part(part) for record in folder.commits() for part in record.parts] == [b"named"]


def test_a_writer_that_finishes_meanwhile_leaves_nothing(folder, monkeypatch):
    """Its temporary file is gone between the listing and the look at its age."""
    walk = local._files_below

    def overtaken(root, top, hidden=False):
        return [*walk(root, top, hidden), "s1/trials/.tmp-finished"]

    monkeypatch.setattr(local, "_files_below", overtaken)
    assert folder.provider.leftovers(HOUR) == ["s1/trials/.tmp-dead"]


def test_what_is_young_stays(folder):
    folder.write_part(b"just now", 1, [(2, 3)], {})
    assert len(prune(folder.provider, HOUR, nobody, delete=False).parts) == 2
    assert len(prune(folder.provider, 0.0, nobody, delete=False).parts) == 3
    assert prune(folder.provider, 3 * HOUR, nobody, delete=True).parts == []


def test_a_part_that_is_written_again_is_young(folder):
    """As a resumed session does: the same rows have the same name."""
    folder.write_part(b"nameless", 1, [(1, 2)], {})
    assert [path[:2] for path in prune(folder.provider, HOUR, nobody, delete=True).parts] == ["s2"]


def test_a_session_with_a_driver_keeps_its_parts(folder):
    told = prune(folder.provider, HOUR, lambda session_id: session_id == "s1", delete=True)
    assert [path[:2] for path in told.parts] == ["s2"]
    assert told.kept == {"s1": "a driver works on it"}


def test_a_record_behind_a_gap_still_names_its_parts(folder):
    part = folder.write_part(b"nameless", 1, [(1, 2)], {})
    folder.commit(CommitRecord(5, "w", (part,)))
    age(folder.provider.root, 2 * HOUR)
    assert [path[:2] for path in prune(folder.provider, HOUR, nobody, delete=True).parts] == ["s2"]


def test_a_part_that_is_committed_after_the_listing_stays(folder, monkeypatch):
    part = folder.write_part(b"nameless", 1, [(1, 2)], {})
    age(folder.provider.root, 2 * HOUR)
    listing = LocalProvider.list

    def list_and_be_overtaken(provider, prefix=""):
        found = listing(provider, prefix)
        folder.commit(CommitRecord(1, "w", (part,)))
        return found

    monkeypatch.setattr(LocalProvider, "list", list_and_be_overtaken)
    assert [path[:2] for path in prune(folder.provider, HOUR, nobody, delete=True).parts] == ["s2"]
    assert folder.read_part(part) == b"nameless"


class Overtaken(LocalProvider):
    """A driver does `then` right after the first deletion of a part."""

    def delete(self, path):
        super().delete(path)
        if "/trials/" in path and (then := THEN.pop("then", None)):
            then()


THEN = {}


@pytest.fixture
def many(tmp_path):
    """A session of an interrupted driver with many old parts that no record names; and their paths."""
    folder = SessionFolder(Overtaken(tmp_path), "s1")
    parts = {folder.write_part(b"%d" % n, 1, [(n, n + 1)], {}).path: b"%d" % n for n in range(3 * LOOK_EVERY)}
    age(tmp_path, 2 * HOUR)
    return folder, dict(sorted(parts.items()))


def test_a_part_that_a_driver_writes_again_meanwhile_stays(many):
    folder, parts = many
    *_, (path, data) = list(parts.items())[:LOOK_EVERY]
    THEN["then"] = lambda: folder.commit(CommitRecord(0, "w", (folder.write_part(data, 1, [(0, 1)], {}),)))
    found = prune(folder.provider, HOUR, nobody, delete=True)
    assert len(found.parts) == len(parts) - 1
    assert [part.path for part in next(folder.commits()).parts] == [path]
    assert folder.provider.list("s1/trials") == [f"s1/{path}"]


def test_a_part_that_is_committed_meanwhile_stays_however_old(many):
    folder, parts = many
    path, data = list(parts.items())[-1]
    THEN["then"] = lambda: folder.commit(CommitRecord(0, "w", (folder.write_part(data, 1, [(0, 1)], {}),)))
    assert len(prune(folder.provider, 0.0, nobody, delete=True).parts) == len(parts) - 1
    assert folder.provider.list("s1/trials") == [f"s1/{path}"]


def test_a_driver_that_begins_meanwhile_keeps_the_rest(many):
    folder, parts = many
    begun = []
    THEN["then"] = lambda: begun.append("s1")
    found = prune(folder.provider, HOUR, lambda session_id: session_id in begun, delete=True)
    assert found.kept == {"s1": "a driver works on it"}
    assert len(found.parts) == LOOK_EVERY
    assert len(folder.provider.list("s1/trials")) == len(parts) - LOOK_EVERY


@pytest.fixture(params=[-HOUR, HOUR], ids=["behind", "ahead"])
def skewed(request, monkeypatch):
    """This machine's clock is not the store's."""
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + request.param)
    return request.param


@pytest.mark.usefixtures("skewed")
def test_ages_are_the_stores_own(folder):
    """A driver somewhere else has just written a part, which it will commit in a moment."""
    young = folder.write_part(b"just now", 1, [(2, 3)], {})
    (folder.provider.root / "s1/trials/.tmp-now").write_bytes(b"half a part")
    found = prune(folder.provider, HOUR, nobody, delete=True)
    assert [path[:2] for path in found.parts] == ["s1", "s2"]
    assert found.temporary == ["s1/trials/.tmp-dead"]
    assert folder.read_part(young) == b"just now"
    assert folder.provider.leftovers(-3 * HOUR) == ["s1/trials/.tmp-now"]


def test_the_skew_is_measured_and_nothing_is_left(folder, skewed):
    before = folder.provider.list()
    clock = StoreClock(folder.provider)
    assert clock.skew_s == pytest.approx(skewed, abs=60)
    assert f"{'ahead of' if skewed > 0 else 'behind'} the store's" in clock.warning()
    assert clock.now() == pytest.approx(time.time() - skewed, abs=60)
    assert folder.provider.list() == before


def test_clocks_that_agree_are_not_spoken_of(folder):
    assert StoreClock(folder.provider).warning() is None


def test_with_a_damaged_record_all_parts_stay(folder):
    file = folder.provider.root / "s1/commits/0000000000.json"
    file.write_bytes(file.read_bytes().replace(b'"w"', b'"v"'))
    told = prune(folder.provider, HOUR, nobody, delete=True)
    assert [path[:2] for path in told.parts] == ["s2"]
    assert "0000000000.json is damaged" in told.kept["s1"]
