"""Objects as files of an NFS mount.

What NFS promises is close-to-open: whoever opens a file after its writer closed it sees all of it. Nothing here needs
more. A name is given by `link`, which the server decides; no lock files and no `flock` are used. A client may take up
to its `acdirmax` (60 s by default) to see a name that another one made, so absence is never proof of anything: the
commit log only ever relies on `create`.
"""

import errno
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import quote, urlencode

from storage.errors import StorageError
from storage.providers.base import ObjectInfo, ObjectTag, Paths
from storage.providers.local import LocalProvider

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class NfsProvider(LocalProvider):
    """A folder on a mount, never the empty folder below it while the mount is missing.

    mount: where the export is mounted; by default the nearest mount above `root`. marker: the name of a file that the
    export holds at `mount`; where it is given, the mount is there when the file is, whatever the kernel says (as in
    containers, which see a bind mount).
    """

    mount: Path | None = None
    marker: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mount is not None:
            object.__setattr__(self, "mount", Path(self.mount).absolute())
            if not self.root.is_relative_to(self.mount):
                raise StorageError(f"{self.root} is not below {self.mount}, which is said to be its mount.")
        elif self.marker is not None:
            raise StorageError(f"The marker {self.marker!r} needs the mount that it lies in; give both.")

    @property
    def uri(self) -> str:
        """nfs:///folder, with mount and marker where they were given."""
        given = {"mount": str(self.mount) if self.mount else None, "marker": self.marker}
        options = urlencode({name: value for name, value in given.items() if value}, safe="/")
        return f"nfs://{quote(str(self.root))}{'?' if options else ''}{options}"

    def read(self, path: str) -> bytes:
        """See `StorageProvider.read`."""
        return self._steady(lambda: super(NfsProvider, self).read(path))

    def fetch(self, path: str) -> tuple[bytes, ObjectTag]:
        """See `StorageProvider.fetch`."""
        return self._steady(lambda: super(NfsProvider, self).fetch(path))

    def write(self, path: str, data: bytes) -> None:
        """See `StorageProvider.write`."""
        self._steady(lambda: super(NfsProvider, self).write(path, data))

    def create(self, path: str, data: bytes) -> bool:
        """See `StorageProvider.create`."""
        return self._steady(lambda: super(NfsProvider, self).create(path, data))

    def list(self, prefix: str = "") -> Paths:
        """See `StorageProvider.list`."""
        return self._steady(lambda: super(NfsProvider, self).list(prefix))

    def stat(self, path: str) -> ObjectInfo:
        """See `StorageProvider.stat`."""
        return self._steady(lambda: super(NfsProvider, self).stat(path))

    def tag(self, path: str) -> ObjectTag:
        """See `StorageProvider.tag`."""
        return self._steady(lambda: super(NfsProvider, self).tag(path))

    def tags(self, prefix: str = "") -> dict[str, ObjectTag]:
        """See `StorageProvider.tags`."""
        return self._steady(lambda: super(NfsProvider, self).tags(prefix))

    def delete(self, path: str) -> None:
        """See `StorageProvider.delete`."""
        self._steady(lambda: super(NfsProvider, self).delete(path))

    def open(self, path: str) -> BinaryIO:
        """See `StorageProvider.open`: the whole file, as a handle may go stale between two reads."""
        return io.BytesIO(self._steady(lambda: _whole(super(NfsProvider, self).open(path))))

    def check_writable(self) -> None:
        """See `StorageProvider.check_writable`."""
        self._steady(super().check_writable)

    def leftovers(self, older_than_s: float) -> Paths:
        """See `StorageProvider.leftovers`."""
        return self._steady(lambda: super(NfsProvider, self).leftovers(older_than_s))

    def remove_leftover(self, name: str) -> None:
        """See `StorageProvider.remove_leftover`."""
        self._steady(lambda: super(NfsProvider, self).remove_leftover(name))

    def check_mounted(self) -> None:
        """Raises `StorageError` while the mount is missing."""
        if self.marker is not None and self.mount is not None:
            if not (self.mount / self.marker).exists():
                raise StorageError(
                    f"{self.mount} does not hold {self.marker}, so the export of {self.uri} is not mounted there; "
                    "mount it and try again."
                )
        elif self.mount is not None and not self.mount.is_mount():
            raise StorageError(f"{self.mount} is not mounted, so {self.uri} is not there; mount it and try again.")
        elif self.mount is None and _mount_above(self.root) == Path(self.root.anchor):
            raise StorageError(
                f"Nothing is mounted at {self.root} or above it, so {self.uri} is not there; mount the export, or "
                "name the folder without nfs:// to use this machine's own disk."
            )

    def _steady(self, action: Callable[[], Answer]) -> Answer:
        """`action` on the mount, once more by path when the handle went stale."""
        self.check_mounted()
        try:
            return action()
        except StorageError as error:
            if getattr(error.__cause__, "errno", None) != errno.ESTALE:
                raise
        return action()

    def _named(self, target: Path, temporary: Path) -> bool:
        """A link whose reply was lost looks like a failure: two names of the file say that it was made."""
        try:
            return super()._named(target, temporary) or _linked_twice(temporary)
        except OSError:
            if not _linked_twice(temporary):
                raise
            return True


def _linked_twice(file: Path) -> bool:
    try:
        return os.stat(file).st_nlink == 2  # noqa: PTH116 - says what is asked for
    except OSError:
        return False


def _whole(file: BinaryIO) -> bytes:
    with file:
        return file.read()


def _mount_above(folder: Path) -> Path:
    return next(above for above in (folder, *folder.parents) if above.is_mount() or above == Path(folder.anchor))
