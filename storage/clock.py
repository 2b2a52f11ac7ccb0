"""The store's own clock, by which the age of what is in it is told: those of two machines may be an hour apart."""

import time
import uuid
from contextlib import suppress

from storage.errors import NotFound
from storage.providers import StorageProvider

LARGE_SKEW_S = 30.0


class StoreClock:
    """Seconds since the epoch as the store counts them; asked once, by an object that is written and removed again.

    skew_s: how far this machine's clock is ahead of it. Raises StorageError where nothing can be written.
    """

    def __init__(self, provider: StorageProvider) -> None:
        path = f"clock-{uuid.uuid4().hex}"
        provider.write(path, b"")
        try:
            self._then, self._since = provider.stat(path).modified, time.monotonic()
            self.skew_s = time.time() - self._then
        finally:
            with suppress(NotFound):
                provider.delete(path)

    def now(self) -> float:
        """At most what it is there, so that nothing is taken for older than it is."""
        return self._then + time.monotonic() - self._since

    def warning(self) -> str | None:
        """What a user is told of a large skew."""
        if abs(self.skew_s) < LARGE_SKEW_S:
            return None
        way = "ahead of" if self.skew_s > 0 else "behind"
        return (
            f"this machine's clock is {abs(self.skew_s):.0f} s {way} the store's, which is the one that counts here; "
            "what is only read, such as `grid ls`, goes by the clock of this machine"
        )
