"""Where nodes run: each in a network namespace with a link of its own where that is permitted, else all on loopback."""

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@dataclass
class Network:
    """Places 0, 1, 2, ... with an address and a way to start a program there. `host`: how they reach this process."""

    host: str = "127.0.0.1"
    can_cut: bool = False

    def address(self, _place: int) -> str:
        return "127.0.0.1"

    def within(self, _place: int) -> list[str]:
        """What to put before a command so that it runs at a place."""
        return []

    def cut(self, place: int) -> None:
        raise NotImplementedError(f"loopback has no link to cut at {place}")

    def heal(self, place: int) -> None:
        raise NotImplementedError(f"loopback has no link to heal at {place}")


@dataclass
class Namespaces(Network):
    """A bridge of this machine, and a namespace at the end of a veth pair for each place."""

    number: int = 0
    places: int = 3
    can_cut: bool = True
    cuts: set[int] = field(default_factory=set)

    def address(self, place: int) -> str:
        return f"10.213.{self.number}.{place + 2}"

    def within(self, place: int) -> list[str]:
        return ["ip", "netns", "exec", self._name(place)]

    def cut(self, place: int) -> None:
        """Nothing passes any more, and no socket is closed."""
        ip("link", "set", self._link(place), "down")

    def heal(self, place: int) -> None:
        ip("link", "set", self._link(place), "up")

    def pids(self) -> list[int]:
        """Processes that are in any of the namespaces."""
        found = []
        for place in range(self.places):
            told = subprocess.run(
                ["ip", "netns", "pids", self._name(place)], check=True, capture_output=True, text=True
            )
            found += [int(pid) for pid in told.stdout.split()]
        return found

    def make(self) -> None:
        ip("link", "add", self._bridge, "type", "bridge")
        ip("addr", "add", f"{self.host}/24", "dev", self._bridge)
        ip("link", "set", self._bridge, "up")
        for place in range(self.places):
            name, link = self._name(place), self._link(place)
            ip("netns", "add", name)
            ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", link, "master", self._bridge, "up")
            ip("-n", name, "addr", "add", f"{self.address(place)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")

    def remove(self) -> None:
        for place in range(self.places):
            subprocess.run(["ip", "netns", "del", self._name(place)], check=False, capture_output=True)
            subprocess.run(["ip", "link", "del", self._link(place)], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self._bridge], check=False, capture_output=True)

    @property
    def _bridge(self) -> str:
        return f"chaos{self.number}"

    def _name(self, place: int) -> str:
        return f"chaos{self.number}-{place}"

    def _link(self, place: int) -> str:
        return f"chaos{self.number}v{place}"


@contextmanager
def network(places: int = 3) -> Iterator[Network]:
    """Namespaces if this process may make them, else loopback; gone when the block ends."""
    number = random.SystemRandom().randrange(1, 250)
    made = Namespaces(host=f"10.213.{number}.1", number=number, places=places)
    try:
        made.make()
    except (OSError, subprocess.CalledProcessError):
        made.remove()
        yield Network()
        return
    try:
        yield made
    finally:
        made.remove()
