"""Bars on the cluster: read by one actor, shared in memory, read again where they are lost, but not for ever."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import ray

from grid.cluster.actors import Loader
from grid.cluster.collect import named, optioned
from grid.cluster.names import bars_name
from grid.sweep import Work
from storage.errors import StorageError

MOST_LOADS = 5
"""Loads of a dataset that are lost one after the other, no unit finished between them, before the sweep is paused."""
LONGEST_LOAD_S = 600.0
"""What one load may take from when its turn has come, as the actor reads one dataset after the other; and what bars
may take to a worker's node.
"""


class BarsOnCluster:
    """References to the bars that units need, or may need again; the driver holds them, and nobody else."""

    def __init__(self, work: Work, spec: dict[str, Any], keys: list[Any]) -> None:
        self._work, self._spec, self._keys = work, spec, keys
        self._bars: dict[int, Any] = {}
        self._loader: Any = self._start()  # None where nothing is left to read, or the last one was lost
        self._readers: dict[int, Any] = {}
        self._unread: set[int] = set()
        self._loading: dict[int, Any] = {}  # in the order in which they are read
        self._turn: tuple[Any, float] = (None, 0.0)
        self._losses: Counter[int] = Counter()
        self._room = 0

    def of(self, dataset: int, needed: set[int]) -> Any:
        """The bars of a dataset; of those that are not `needed`, `Work.let_go` says which are let go."""
        if dataset not in self._bars:
            self._room = _room()
        wanted = needed | {dataset}
        for old in self._work.let_go([d for d in self._bars if d not in wanted], self._room):
            self._drop(old)
        if dataset not in self._bars:
            self._loader = self._loader or self._start()
            load = self._loader.load.options(name=bars_name(self._work.folder.session_id))
            self._bars[dataset] = load.remote(dataset, self._work.fingerprint(dataset))
            self._readers[dataset] = self._loader
            self._loading[dataset] = self._bars[dataset]
            self._unread.add(dataset)
        return self._bars[dataset]

    def loading(self) -> list[int]:
        """Datasets whose bars are not there yet. The one whose turn it is is loaded again when it takes too long."""
        for dataset, bars in list(self._loading.items()):
            if ray.wait([bars], timeout=0, fetch_local=False)[0]:
                del self._loading[dataset]
        self._judge(next(iter(self._loading), None))
        return list(self._loading)

    def _judge(self, dataset: int | None) -> None:
        bars = None if dataset is None else self._bars[dataset]
        if dataset is None or bars is not self._turn[0]:
            self._turn = bars, time.monotonic()
        elif time.monotonic() - self._turn[1] > LONGEST_LOAD_S:
            self.lost(dataset, bars, f"loading them took longer than {LONGEST_LOAD_S:.0f} s")

    def proved(self, dataset: int, bars: Any, read: Mapping[str, int]) -> None:
        """A unit on these bars was finished; `read` is what reading them took, which several workers share.

        Once there was one on every dataset, and all stay, nothing is left to read, and the actor ends: it takes CPU
        although it has nothing to do.
        """
        if self._bars.get(dataset) is not bars:
            return
        if dataset in self._unread:
            self._unread.remove(dataset)
            self._work.observer.read(read)
        self._losses.pop(dataset, None)
        if not self._unread and len(self._bars) == len(self._keys) and not self._work.let_go(self._bars, self._room):
            self.close()

    def lost(self, dataset: int, bars: Any, reason: str) -> None:
        """These bars are gone, as each of the workers that waited for them will say; another actor reads them again.

        Raises StorageError when they are lost again and again: the sweep pauses, resumable.
        """
        if self._bars.get(dataset) is not bars:
            return
        if self._readers[dataset] is self._loader:
            self.close()
        self._drop(dataset)
        self._losses[dataset] += 1
        if self._losses[dataset] >= MOST_LOADS:
            raise StorageError(
                f"the bars of {self._keys[dataset]} cannot be brought to the workers: {reason}, "
                f"{self._losses[dataset]} times. Nodes need memory for them, and reach of the store."
            )

    def close(self) -> None:
        if self._loader is not None:
            ray.kill(self._loader)
        self._loader = None

    def _start(self) -> Any:
        return optioned(Loader, name=named(self._work, "loader")).remote(self._spec, self._keys)

    def _drop(self, dataset: int) -> None:
        for known in (self._bars, self._readers, self._loading):
            known.pop(dataset, None)


def _room() -> int:
    """Bytes of the object store for bars that no unit needs now: a quarter of the smallest node's."""
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    stores = [node["Resources"].get("object_store_memory", 0) for node in nodes]
    return int(min(stores, default=0)) // 4


class Deliveries:
    """Bars on their way to workers: each has them brought, by a call of its own, before its first unit on them."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._coming: dict[Any, tuple[str, int]] = {}
        self._awaited: dict[Any, float] = {}

    def order(self, worker: str, actor: Any, dataset: int, bars: Any) -> None:
        """Have them brought, unless the worker was last given a unit on them too."""
        if self._last.get(worker) != dataset:
            self._last[worker] = dataset
            self._coming[actor.bring.remote(dataset, [bars])] = worker, dataset

    def again(self, worker: str) -> None:
        """What the worker was brought is lost, or the worker itself."""
        self._last.pop(worker, None)
        self._coming = {call: to for call, to in self._coming.items() if to[0] != worker}

    def waiting(self, at: Callable[[str], int | None], now: float) -> list[str]:
        """Workers that wait for bars, and so cannot be overdue. at: the dataset that a worker's current unit is on.

        One that waits for longer than `LONGEST_LOAD_S` is no longer among them.
        """
        if self._coming:
            came, _ = ray.wait(list(self._coming), num_returns=len(self._coming), timeout=0)
            self._coming = {call: to for call, to in self._coming.items() if call not in came}
        waits = {call: to[0] for call, to in self._coming.items() if at(to[0]) == to[1]}
        self._awaited = {call: self._awaited.get(call, now) for call in waits}
        return [worker for call, worker in waits.items() if now - self._awaited[call] < LONGEST_LOAD_S]
