"""The contract of a strategy: a frozen pydantic model of its parameters, from bars to signals."""

from __future__ import annotations

import hashlib
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import ModuleType
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from strategies.bars import Bars
from strategies.bits import Bits, crosses, describe_array, words_of_all
from strategies.errors import SignalError, StrategyError

Mask = Bits | NDArray[np.bool_]


class Signals(NamedTuple):
    """What a strategy wants, bar by bar; a signal at bar i may use the bars up to and including i.

    entries, exits, short_entries, short_exits: masks of n bars (Bits or bool[n]); None is an empty mask.
    hold: leave at the open of the entry bar + hold, in bars, at least 1; None for no limit.
    stop_loss, trailing_stop: fraction of the fill price against the position, in (0, 1); None for none.
    take_profit: fraction of the fill price in favour, above 0; None for none.
    cooldown: bars after an exit without a new entry, at least 0; None for the sweep's.
    """

    entries: Mask | None = None
    exits: Mask | None = None
    short_entries: Mask | None = None
    short_exits: Mask | None = None
    hold: int | None = None
    stop_loss: float | None = None
    take_profit: float | None = None
    trailing_stop: float | None = None
    cooldown: int | None = None

    def normalised(self, n: int) -> Signals:
        """The same with every mask a Bits of `n` bars. Raises SignalError naming the field that is wrong."""
        self._check_numbers()
        entries, exits, short_entries, short_exits = self._bits(n)
        return Signals(entries, exits, short_entries, short_exits, *self[4:])

    def words(self, n: int) -> tuple[NDArray[np.uint64], ...]:
        """The words of the four masks, in order. Raises SignalError naming the field that is wrong."""
        hold, stop_loss, take_profit, trailing_stop, cooldown = self[4:]
        if not (hold is stop_loss is take_profit is trailing_stop is cooldown is None):
            self._check_numbers()
        words = words_of_all(self[:4], n)
        return words if words is not None else tuple(bits.words for bits in self._bits(n))

    def _bits(self, n: int) -> list[Bits]:
        return [_bits(field, mask, n) for field, mask in zip(self._fields, self[:4], strict=False)]

    def _check_numbers(self) -> None:
        if self.hold is not None:
            _check_whole("hold", self.hold, 1)
        if self.cooldown is not None:
            _check_whole("cooldown", self.cooldown, 0)
        if self.stop_loss is not None:
            _check_fraction("stop_loss", self.stop_loss, 1.0)
        if self.trailing_stop is not None:
            _check_fraction("trailing_stop", self.trailing_stop, 1.0)
        if self.take_profit is not None:
            _check_fraction("take_profit", self.take_profit, math.inf)


def cross(a: ArrayLike, b: ArrayLike) -> Signals:
    """Long from a cross of `a` above `b` to the cross back, and short the other way round.

    Each side is float64[n] or a number, not both; see `crosses_above` for what a cross is.
    """
    up, down = crosses(a, b)
    return Signals(up, down, down, up)


class Strategy(BaseModel, ABC):
    """Subclass it, declare the parameters as fields with bounds, and write `signals`.

    A point that makes no sense although each parameter is in its bounds (a fast window longer than the slow
    one) is left to the constraints of the sweep: it is neither refused nor changed here.

    depends_on: modules of yours whose source decides what the strategy does; they enter its fingerprint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    depends_on: ClassVar[tuple[ModuleType, ...]] = ()

    @abstractmethod
    def signals(self, bars: Bars) -> Signals:
        """The signals over `bars`; a pure function of the parameters and the bars, causal at every bar."""

    @classmethod
    def source_hash(cls) -> str:
        """sha256 over the source of the class's module, of those it inherits from, and of `depends_on`.

        Raises StrategyError where Python cannot find the source.
        """
        digest = hashlib.sha256()
        for source in sorted({_source_of(thing) for thing in cls._sources()}):
            digest.update(source.encode())
        return digest.hexdigest()

    @classmethod
    def _sources(cls) -> Iterator[type | ModuleType]:
        yield from (base for base in cls.__mro__ if base not in Strategy.__mro__)
        yield from cls.depends_on


def _source_of(thing: type | ModuleType) -> str:
    module = inspect.getmodule(thing)
    for candidate in (module, thing):
        try:
            if candidate is not None:
                return inspect.getsource(candidate)
        except (OSError, TypeError):
            continue  # a class typed at a prompt has no module source, but may have one of its own
    raise StrategyError(f"the source of {thing.__name__} cannot be found; define it in a module on the path")


def _bits(field: str, mask: Mask | None, n: int) -> Bits:
    if mask is None:
        return Bits.zeros(n)
    if isinstance(mask, Bits):
        if mask.n != n:
            raise SignalError(f"signals.{field} has {mask.n} bars, the data has {n}")
        return mask
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (n,):
        raise SignalError(f"signals.{field} must be Bits or bool[{n}], got {describe_array(mask)}")
    return Bits.pack(mask)


def _check_whole(field: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SignalError(f"signals.{field} must be a whole number of at least {least}, got {value!r}")


def _check_fraction(field: str, value: object, below: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < below:
        bound = "above 0" if below == math.inf else f"between 0 and {below:g}, both excluded"
        raise SignalError(f"signals.{field} must be a finite fraction {bound}, got {value!r}")
