"""What is particular to NFS: mounts that are missing, handles that go stale, replies that are lost."""

import errno
import os
from pathlib import Path

import pytest

from storage.errors import StorageError
from storage.providers import NfsProvider, provider_for


@pytest.fixture
def nfs(tmp_path):
    (tmp_path / "export").touch()
    return NfsProvider(tmp_path / "store", tmp_path, "export")


def test_an_export_that_is_not_mounted_is_refused_by_every_method(nfs):
    nfs.write("a", b"")
    (nfs.mount / "export").unlink()
    calls = [nfs.read, nfs.fetch, nfs.stat, nfs.tag, nfs.tags, nfs.delete, nfs.open, nfs.list]
    calls += [lambda p: nfs.write(p, b"x"), lambda p: nfs.create(p, b"x"), lambda _: nfs.check_writable()]
    calls += [lambda _: nfs.leftovers(0.0), lambda _: nfs.remove_leftover(".tmp-1")]
    for call in calls:
        with pytest.raises(StorageError, match="is not mounted there; mount it"):
            call("a")
    assert list(nfs.root.iterdir()) == [nfs.root / "a"]


def test_no_lock_file_is_left(nfs):
    nfs.write("a", b"1")
    assert [nfs.create("b", b"1"), nfs.create("b", b"2")] == [True, False]
    assert sorted(file.name for file in nfs.root.iterdir()) == ["a", "b"]


def test_a_mount_point_that_is_no_mount_is_refused(tmp_path, monkeypatch):
    nfs = NfsProvider(tmp_path / "mount/store", tmp_path / "mount")
    (tmp_path / "mount").mkdir()
    with pytest.raises(StorageError, match=f"{tmp_path}/mount is not mounted"):
        nfs.write("a", b"")
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "mount")
    nfs.write("a", b"")
    assert NfsProvider(tmp_path / "mount/store").read("a") == b""


def test_without_a_mount_anywhere_above_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "is_mount", lambda path: path == Path("/"))
    with pytest.raises(StorageError, match=r"Nothing is mounted at .* name the folder without nfs://"):
        NfsProvider(tmp_path).list()


def test_a_stale_handle_is_opened_again_once(nfs, monkeypatch):
    nfs.write("a", b"content")
    stale, read = [2], Path.read_bytes

    def sick(path):
        stale[0] -= 1
        if stale[0] >= 0:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", sick)
    with pytest.raises(StorageError, match=r"Could not read 'a' in nfs://.*Stale file handle"):
        nfs.read("a")
    stale[0] = 1
    assert nfs.read("a") == b"content"


@pytest.mark.parametrize("code", [errno.EIO, errno.EEXIST, errno.ETIMEDOUT])
def test_a_link_whose_reply_was_lost_counts(nfs, monkeypatch, code):
    link = Path.hardlink_to

    def lossy(path, target):
        link(path, target)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "hardlink_to", lossy)
    assert nfs.create("a", b"mine") is True
    assert nfs.read("a") == b"mine"
    monkeypatch.undo()
    assert nfs.create("a", b"other") is False
    assert nfs.list() == ["a"]


def test_a_link_that_was_not_made_does_not_count(nfs, monkeypatch):
    def failing(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "hardlink_to", failing)
    with pytest.raises(StorageError, match=r"Could not create 'a' .*Input/output error"):
        nfs.create("a", b"mine")
    assert nfs.list() == []


def test_names(tmp_path):
    nfs = NfsProvider(tmp_path / "a b", tmp_path, "export")
    assert nfs.uri == f"nfs://{tmp_path}/a%20b?mount={tmp_path}&marker=export"
    assert provider_for(nfs.uri) == nfs
    assert provider_for(f"nfs://{tmp_path}") == NfsProvider(tmp_path)
    for uri in ("nfs://host/x", "nfs://", "nfs:///x?nope=1", "nfs:///x?mount=/y", "nfs:///x?marker=m"):
        with pytest.raises(StorageError):
            provider_for(uri)
