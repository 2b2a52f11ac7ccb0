"""A store that fails when it is told to."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from storage.errors import StorageError
from storage.providers import MemoryProvider

FINE, FAILS, ANSWER_LOST = "fine", "fails", "answer lost"
"""What becomes of a call: it works; it does nothing and raises; it works and raises all the same."""


class FaultyProvider(MemoryProvider):
    """Memory whose next calls of each method go as `script` says (then all is fine); `calls` counts them."""

    def __init__(self) -> None:
        super().__init__("faulty")
        object.__setattr__(self, "script", {name: deque() for name in ("read", "write", "create")})
        object.__setattr__(self, "calls", Counter())

    def read(self, path: str) -> bytes:
        return self._played("read", path, super().read, path)

    def write(self, path: str, data: bytes) -> None:
        self._played("write", path, super().write, path, data)

    def create(self, path: str, data: bytes) -> bool:
        return self._played("create", path, super().create, path, data)

    @contextmanager
    def healthy(self) -> Iterator[None]:
        """Within the block all is fine."""
        kept = {name: tuple(fates) for name, fates in self.script.items()}
        self.heal()
        yield
        for name, fates in kept.items():
            self.script[name].extend(fates)

    def heal(self) -> None:
        """From here on all is fine."""
        for fates in self.script.values():
            fates.clear()

    def _played(self, name: str, path: str, call: Callable[..., Any], *arguments: Any) -> Any:
        self.calls[name] += 1
        fates = self.script[name]
        fate = fates.popleft() if fates else FINE
        answer = None if fate == FAILS else call(*arguments)
        if fate != FINE:
            raise StorageError(f"Could not {name} {path!r}: as the script says.")
        return answer
