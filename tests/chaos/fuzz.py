"""Spoilt input from seeds: Parquet files of bars, sweep files, commit records. A clear error, or the right result.

`python -m tests.chaos.fuzz 10000` tries so many of each.
"""

import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from grid.apart import Fallen, answers
from grid.errors import BadInput
from grid.resolve import load_bars, resolve
from grid.specfile import load_sweep
from storage.errors import BadData, StorageError
from storage.sessions import CommitRecord, Part
from strategies.errors import StrategyError
from tests.e2e.desk import CONTROL, SWEEP
from tests.e2e.sweeps import DATA

RIGHT, ERROR = "right", "error"
LONGEST_S = 30.0
Case = Callable[[int], str]

COUNTS = {"ok": 4, "failed": 1, "reused": {}, "machine": "m"}


def spoilt(data: bytes, dice: random.Random) -> bytes:
    """One to three changes: bits flipped, bytes put in, taken out, doubled, zeroed, or the end cut off."""
    out = bytearray(data)
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        at = dice.randrange(len(out) + 1)
        length = dice.choice([1, 1, 2, 8, 64])
        match dice.randrange(7):
            case 0 | 1:
                out[at : at + 1] = bytes(byte ^ (1 << dice.randrange(8)) for byte in out[at : at + 1])
            case 2:
                out[at:at] = dice.randbytes(length)
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = out[at : at + length]
            case 5:
                out[at : at + length] = bytes(len(out[at : at + length]))
            case 6:
                del out[at:]
    return bytes(out)


def checked(error: Exception) -> str:
    """An error is told in one paragraph, to people."""
    text = str(error)
    assert text, "an error that says nothing"
    assert "Traceback" not in text
    assert not CONTROL.search(text.replace("\n", " ")), f"control characters in {text!r}"
    return ERROR


def parquet_case(folder: Path) -> Case:
    """A file of bars: what is read from it is what was written, or it is refused."""
    target = folder / "bars" / "IBM" / "1D" / "2011.parquet"
    target.parent.mkdir(parents=True)
    right = (DATA / "IBM" / "1D" / "2011.parquet").read_bytes()
    target.write_bytes(right)
    store = str(folder / "bars")
    written = load_bars("IBM", "1D", store)

    def case(seed: int) -> str:
        target.write_bytes(spoilt(right, random.Random(seed)))
        try:
            read = load_bars("IBM", "1D", store)
        except (StorageError, BadInput) as error:
            return checked(error)
        for name in ("calendar", "periods_per_year"):
            assert getattr(read, name) == getattr(written, name), f"{name} is {getattr(read, name)!r}"
        for name in ("timestamp", "open", "high", "low", "close", "volume"):
            assert getattr(read, name).tobytes() == getattr(written, name).tobytes(), f"other values of {name}"
        return RIGHT

    return case


def sweep_case(folder: Path) -> Case:
    """A sweep file: it is understood, to the last field, or refused."""
    (folder / "data").symlink_to(DATA)
    target = folder / "sweep.yaml"
    spec = {**SWEEP, "data": {**SWEEP["data"], "store": str(folder / "data")}, "constraints": ["fast < slow"]}
    spec["results"] = {"store": str(folder / "results")}
    right = yaml.safe_dump(spec, sort_keys=False).encode()

    def case(seed: int) -> str:
        target.write_bytes(spoilt(right, random.Random(seed)))
        try:
            resolved = resolve(load_sweep(target, {}))
            count = resolved.plan.count()
        except (BadInput, StorageError, StrategyError) as error:
            return checked(error)
        given, understood = yaml.safe_load(target.read_bytes()), resolved.sweep.model_dump(mode="json")
        assert has(understood, given), f"{given} was understood as {understood}"
        points = [dict(zip(given["space"], values, strict=True)) for values in product(*given["space"].values())]
        if given.get("constraints") == ["fast < slow"]:
            points = [point for point in points if point["fast"] < point["slow"]]
        assert count.trials == len(points) * len(resolved.datasets)
        return RIGHT

    return case


def has(understood: Any, given: Any) -> bool:
    """Whether all that was given is in what was understood, of the same types; a value may stand for a list of it, and
    folders are understood from here.
    """
    if isinstance(given, dict):
        return all(name in understood and has(understood[name], value) for name, value in given.items())
    if isinstance(given, str):
        return understood in (given, [given], str(Path(given).absolute()))
    values = understood["values"] if isinstance(understood, dict) else understood
    return json.dumps(given) in (json.dumps(values), json.dumps(values)[1:-1])


def commit_case(_folder: Path) -> Case:
    """A commit record: the one that was written, or refused."""
    parts = tuple(
        Part(f"trials/part-{n:024x}.parquet", f"{n:064x}", 5, ((n, n + 5),), {**COUNTS, "best": [[1.5, n]]})
        for n in (0, 10)
    )
    record = CommitRecord(3, "w" * 32, parts)
    right = record.encode()

    def case(seed: int) -> str:
        data = spoilt(right, random.Random(seed))
        try:
            read = CommitRecord.decode(data, "commits/3.json")
        except BadData as error:
            return checked(error)
        assert data == right, f"seed {seed}: a record of other bytes passes"
        assert read == record
        return RIGHT

    return case


KINDS: dict[str, Callable[[Path], Case]] = {"bars": parquet_case, "sweep": sweep_case, "commit": commit_case}


def fuzz(kind: str, seeds: range) -> Counter[str]:
    """How the seeds ended. Raises AssertionError, with the seed, for one that ended in neither way.

    In a child process, so that one that kills or holds it is found as well.
    """
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    ended: Counter[str] = Counter()
    seed = seeds.start
    try:
        case = KINDS[kind](folder)
        for seed, outcome, told in answers(lambda say: [say([s, *_one(case, s)]) for s in seeds], LONGEST_S):
            assert outcome in (RIGHT, ERROR), f"{kind} of seed {seed}: {told}"
            ended[outcome] += 1
    except Fallen as fallen:
        raise AssertionError(f"{kind} of a seed after {seed}: {fallen}") from None
    finally:
        shutil.rmtree(folder)
    assert ended.total() == len(seeds)
    return ended


def _one(case: Case, seed: int) -> tuple[str, str]:
    try:
        return case(seed), ""
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return "broken", f"{type(error).__name__}: {error}"


def main() -> None:
    count = int(sys.argv[1])
    for kind in KINDS:
        ended = fuzz(kind, range(count))
        sys.stdout.write(f"{kind}: {count} spoilt, {ended[ERROR]} refused, {ended[RIGHT]} read as they were meant\n")


if __name__ == "__main__":
    main()
