"""Objects in a bucket of S3, or of anything that speaks its protocol and keeps its promises."""

import io
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from operator import itemgetter
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from storage.errors import NotFound, StorageError
from storage.providers.base import HIDDEN, PROBE, ObjectInfo, ObjectTag, Paths, checked, checked_leftover, sha256_of
from storage.providers.s3_calls import Answer, Call, Connection, Damaged, Refused, connection_for, retries_here
from storage.providers.s3_options import S3Options

_SHA256, _WRITER = "sha256", "writer"  # user metadata of each object that is written here
_proven: set[tuple[int, str, str]] = set()


@dataclass(frozen=True)
class S3Provider:
    """Objects below `prefix` of a bucket; the bucket must exist.

    Needs a store that honours `If-None-Match: *` (AWS does, and many look-alikes; some only seem to), which is tried
    before a process first writes. Content carries its sha256 as metadata, and each read is checked against it.
    Credentials come from the environment, a profile or the machine's role, never from here. Pickles without
    a connection: each process makes its own when it first needs one.
    """

    bucket: str
    prefix: str = ""
    options: S3Options = field(default_factory=S3Options)

    @property
    def uri(self) -> str:
        """s3://bucket/prefix, and those options that were given and not left to the environment."""
        given = {f.name: getattr(self.options, f.name) for f in fields(S3Options)}
        stated = {
            name: str(value).lower() if value is True or value is False else str(value)
            for name, value in given.items()
            if value is not None
        }
        place = f"s3://{self.bucket}/{quote(self.prefix)}".rstrip("/")
        return place + (f"?{urlencode(stated, safe='/:')}" if stated else "")

    @property
    def retries(self) -> int:
        """See `StorageProvider.retries`: requests of this process to any bucket."""
        return retries_here()

    def read(self, path: str) -> bytes:
        """See `StorageProvider.read`."""
        return self._fetched("read", path).body

    def fetch(self, path: str) -> tuple[bytes, ObjectTag]:
        """See `StorageProvider.fetch`: one GET."""
        answer = self._fetched("read", path)
        return answer.body, _tag_of(answer.size, answer.fields["ETag"])

    def write(self, path: str, data: bytes) -> None:
        """See `StorageProvider.write`: one PUT."""
        self._put("write", path, data, self._labels(data))

    def create(self, path: str, data: bytes) -> bool:
        """See `StorageProvider.create`: a PUT that S3 refuses where something is.

        A refusal may be that of our own first try whose answer was lost, so the object is asked who wrote it.
        """
        labels = self._labels(data)
        if self._put("create", path, data, {"IfNoneMatch": "*", **labels}):
            return True
        return self._is_mine(path, self._key(path), labels["Metadata"][_WRITER])

    def list(self, prefix: str = "") -> Paths:
        """See `StorageProvider.list`: one request for each 1,000 objects."""
        return sorted(path for path, _ in self._listed(prefix) if _is_shown(path))

    def stat(self, path: str) -> ObjectInfo:
        """See `StorageProvider.stat`: one HEAD; content that others wrote without its sha256 is read for it."""
        head = self._head("stat", path)
        if (known := _sha256_in(head)) is None:
            head = self._fetched("stat", path)
            known = sha256_of(head.body)
        return ObjectInfo(path, head.size, head.fields["LastModified"].timestamp(), known)

    def tag(self, path: str) -> ObjectTag:
        """See `StorageProvider.tag`: one HEAD."""
        head = self._head("tag", path)
        return _tag_of(head.size, head.fields["ETag"])

    def tags(self, prefix: str = "") -> dict[str, ObjectTag]:
        """See `StorageProvider.tags`: a listing tells them."""
        shown = [(path, entry) for path, entry in self._listed(prefix) if _is_shown(path)]
        return {path: _tag_of(entry["Size"], entry["ETag"]) for path, entry in sorted(shown, key=itemgetter(0))}

    def delete(self, path: str) -> None:
        """See `StorageProvider.delete`: S3 does not say whether there was anything, so a HEAD asks before."""
        self._head("delete", path)
        self._call("delete", path, "delete_object", Key=self._key(path))

    def open(self, path: str) -> BinaryIO:
        """See `StorageProvider.open`: the whole object, checked, in memory."""
        return io.BytesIO(self._fetched("open", path).body)

    def check_writable(self) -> None:
        """See `StorageProvider.check_writable`: an object is created, and has to be refused the second time."""
        name = f"{PROBE}{uuid.uuid4().hex}"
        key, labels = self._root() + name, self._labels(b"")
        put = Call("create", name, "put_object", {"Key": key, "Body": b"", "IfNoneMatch": "*", **labels})
        try:
            self._accepts(put, 412)  # refused is our own repetition, after an answer that was lost
            if self._accepts(put, 409, 412):
                raise StorageError(
                    f"{self._where()} overwrites what is there when it is asked to create only what is absent, so "
                    "writers could lose each other's work; keep results in a folder or on NFS instead, or use a store "
                    "that honours If-None-Match (AWS, SeaweedFS and Ceph do)."
                )
        finally:
            with suppress(StorageError):
                self._told(Call("delete", name, "delete_object", {"Key": key}))
        _proven.add(self._promise())

    def leftovers(self, older_than_s: float) -> Paths:
        """See `StorageProvider.leftovers`: objects with which a promise was tried. A PUT leaves none."""
        latest = time.time() - older_than_s
        return sorted(
            path
            for path, entry in self._listed("")
            if path.rpartition("/")[2].startswith(HIDDEN) and entry["LastModified"].timestamp() <= latest
        )

    def remove_leftover(self, name: str) -> None:
        """See `StorageProvider.remove_leftover`."""
        key = self._root() + checked_leftover(name)
        self._told(Call("delete", name, "delete_object", {"Key": key}))

    def _listed(self, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Path and entry of every key below the folder, ours or not, in the order of S3."""
        top = self._key(prefix) + "/" if prefix else self._root()
        following: dict[str, str] = {}
        while True:
            page = self._call("list", prefix, "list_objects_v2", Prefix=top, **following).fields
            for entry in page.get("Contents", ()):
                yield entry["Key"].removeprefix(self._root()), entry
            if not page.get("IsTruncated"):
                return
            following = {"ContinuationToken": page["NextContinuationToken"]}

    def _accepts(self, put: Call, *refusals: int) -> bool:
        try:
            self._connection().run(put, self.uri)
        except Refused as refusal:
            if refusal.status not in refusals:
                raise refusal.told() from refusal.error
            return False
        return True

    def _prove(self) -> None:
        """Before the first write of a process: does the store keep the promise that commits rely on?"""
        if self._promise() not in _proven:
            self.check_writable()

    def _promise(self) -> tuple[int, str, str]:
        return os.getpid(), self.bucket, self.options.place()

    def _is_mine(self, path: str, key: str, writer: str) -> bool:
        try:
            head = self._call("create", path, "head_object", Key=key)
        except NotFound:
            return False
        return bool(head.fields.get("Metadata", {}).get(_WRITER) == writer)

    def _labels(self, data: bytes) -> dict[str, Any]:
        labels = {"Metadata": {_SHA256: sha256_of(data), _WRITER: uuid.uuid4().hex}}
        return {**labels, **self.options.encryption()}

    def _head(self, action: str, path: str) -> Answer:
        return self._call(action, path, "head_object", Key=self._key(path))

    def _fetched(self, action: str, path: str) -> Answer:
        """The object, whole and as it was written."""
        return self._call(action, path, "get_object", Key=self._key(path))

    def _call(self, action: str, path: str, method: str, **arguments: Any) -> Answer:
        call = Call(action, path, method, arguments, check=_undamaged if method == "get_object" else None)
        return self._told(call)

    def _put(self, action: str, path: str, data: bytes, more: dict[str, Any]) -> bool:
        """Whether it is stored; False where something is that was not to be overwritten."""
        key = self._key(path)
        self._prove()
        try:
            return self._connection().put(
                Call(action, path, "put_object", {"Key": key, "Body": bytes(data), **more}), self.uri
            )
        except Refused as refusal:
            raise refusal.told() from refusal.error

    def _told(self, call: Call) -> Answer:
        try:
            return self._connection().run(call, self.uri)
        except Refused as refusal:
            raise refusal.told() from refusal.error

    def _connection(self) -> Connection:
        return connection_for(self.bucket, self.options)

    def _where(self) -> str:
        return f"{self.uri} ({self.options.place()})"

    def _root(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def _key(self, path: str) -> str:
        return self._root() + checked(path)


def _is_shown(path: str) -> bool:
    """Markers of folders, which some tools leave, are no objects."""
    return not path.endswith("/") and not any(part.startswith(HIDDEN) for part in path.split("/"))


def _tag_of(size: int, etag: str) -> ObjectTag:
    """Some stores put the ETag into quotes in a header and not in a listing."""
    plain = etag.strip('"')
    return ObjectTag(size, f"etag:{plain}")


def _sha256_in(answer: Answer) -> str | None:
    found: str | None = answer.fields.get("Metadata", {}).get(_SHA256)
    return found


def _undamaged(answer: Answer) -> None:
    """Raises `Damaged` where the content is not the one that was written."""
    if len(answer.body) != answer.size:
        raise Damaged(f"{len(answer.body)} of {answer.size} bytes arrived")
    known = _sha256_in(answer)
    if known is not None and sha256_of(answer.body) != known:
        raise Damaged("the content does not have the sha256 it was written with")
