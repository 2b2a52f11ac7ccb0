"""Trials that were run before are not run again, and the rows are those of a session that runs them all."""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid import aggregate, evaluate, rehearse, reuse, sources
from grid.conditions import machine_kind
from grid.errors import BadInput, Refused
from grid.plan import WorkUnit
from grid.ranges import Ranges
from grid.resolve import resolve
from grid.results import BLOCK_COLUMNS, METRICS, OK, decode, encode, join_small, without
from grid.reuse import gather
from grid.session import Session, across
from grid.spec import Sweep
from grid.sweep import Watch, choose, resume, run
from grid.verdict.tried import Tried, ledger, tried_by
from grid.verify import audit
from storage.providers import LocalProvider, provider_for
from storage.sessions import CATALOG, CommitRecord, SessionFolder, SessionStore
from tests.conftest import REPOSITORY
from tests.grid.made_results import OBJECTIVE, batch, bits

STORES: Iterator[int] = count()
FAST, SLOW, STOP = [2, 5, 8, 9, 13], [7, 20, 30, 90], [None, 0.02, 0.05]
SYMBOLS = ["AAPL", "IBM"]


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    """The rehearsal times one chunk, and each unit is committed by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearse, "REHEARSAL_S", 0.0)
        patch.setattr(aggregate, "FLUSH_ROWS", 1)
        yield


def new_store() -> str:
    return f"memory://reuse-{next(STORES)}"


def sweep_of(store: str, reused: bool = True, **changes: Any) -> dict[str, Any]:
    """120 trials on two datasets without holes, of which those with `fast` 8 fail."""
    return {
        "strategy": "tests.grid.wild:Wild",
        "data": {
            "store": str(REPOSITORY / "data"),
            "symbols": SYMBOLS,
            "timeframes": ["1D"],
            "start": "2004-01-01",
            "end": "2006-01-01",
        },
        "space": {"fast": FAST, "slow": SLOW, "stop": STOP, "bad": 8},
        "validation": {"blocks": 4, "holdout": 0.1},
        "results": {"store": store, "keep_best": 3, "reuse": reused},
        **changes,
    }


def swept(store: str, unit_size: int | None = None, watch: Watch | None = None, **changes: Any) -> Session:
    return run(sweep_of(store, **changes), "serial", watch, unit_size)


def stopped_at(rows: int) -> Watch:
    seen: list[int] = []
    return Watch(progress=lambda p: seen.append(p.done), stopping=lambda: bool(seen) and seen[-1] >= rows)


def rows_of(session: Session) -> dict[str, Any]:
    """Every bit of the rows but who ran them."""
    return bits(session.trials().drop_columns(["reused_from"]))


def reused(session: Session) -> dict[str, int]:
    return dict(session.ledger.summary.reused)


def points_of(session: Session, own: bool = False) -> set[tuple[Any, ...]]:
    """Dataset and parameters of the trials that went well. own: of those that it ran itself."""
    names = ["symbol", *sorted(session.points.names)]
    rows = session.trials([*names, "status", "reused_from"]).to_pylist()
    return {tuple(r[n] for n in names) for r in rows if r["status"] == OK and not (own and r["reused_from"])}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many trials this process has run, those of the rehearsal apart."""
    counted: Counter[str] = Counter()
    one, before = evaluate.Evaluator._one, rehearse._Trials.try_out

    def tried(self: Any, *given: Any) -> None:
        ran = counted["trials"]
        before(self, *given)
        counted["trials"] = ran

    monkeypatch.setattr(rehearse._Trials, "try_out", tried)
    monkeypatch.setattr(evaluate.Evaluator, "_one", lambda *given: counted.update(["trials"]) or one(*given))
    return counted


@pytest.fixture(scope="module")
def whole() -> Session:
    return swept(new_store())


def some(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, unique=True)


EARLIER = st.fixed_dictionaries(
    {
        "space": st.fixed_dictionaries(
            {"stop": some(STOP), "bad": st.just(8), "slow": some([*SLOW, 55]), "fast": some([*FAST, 3])}
        ),
        "symbols": some(SYMBOLS),
        "search": st.sampled_from([{}, {"method": "random", "trials": 9, "seed": 4}, {"method": "sobol", "trials": 8}]),
        "rows": st.sampled_from([1, 10, 1000]),
    }
)
UNITS = st.sampled_from([1, 7, 1000])
METHODS = st.sampled_from(
    [
        {},
        {"method": "random", "trials": 30, "seed": 1},
        {"method": "local", "trials": 24, "round": 8},
        {"method": "tpe", "trials": 20, "round": 10},
    ]
)


@pytest.mark.parametrize("examples", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_the_rows_are_those_of_a_session_that_runs_all(examples: int) -> None:
    """Whatever sessions came before: of parts of the space, in other orders, cut short, and reusing each other."""
    settings(max_examples=examples)(given(st.lists(EARLIER, max_size=3), METHODS, UNITS)(rows_after))()


def rows_after(earlier: list[dict[str, Any]], search: dict[str, Any], unit_size: int) -> None:
    store, before = new_store(), {}
    for one in earlier:
        data = {**sweep_of(store)["data"], "symbols": one["symbols"]}
        with suppress(Refused):  # where all of its first trials fail, nothing is written
            session = swept(store, 5, stopped_at(one["rows"]), space=one["space"], search=one["search"], data=data)
            before[session.id] = points_of(session, own=True)
    alone = swept(store, reused=False, search=search)
    assert reused(alone) == {}
    SessionStore(provider_for(store)).provider.delete(f"{CATALOG}/{alone.id}.json")
    found = swept(store, unit_size, search=search)
    assert rows_of(found) == rows_of(alone)
    assert found.top_points(5) == alone.top_points(5)
    there, by = points_of(found), {name: points & points_of(found) for name, points in before.items()}
    known = set().union(*by.values()) if by else set()
    assert sum(map(len, by.values())) == len(known)  # nothing was run twice before
    assert reused(found) == {name: len(points) for name, points in sorted(by.items()) if points}
    assert points_of(found, own=True) == there - known


def test_what_was_run_is_not_run_again(runs: Counter[str], whole: Session) -> None:
    """Failed trials are, as they may have failed for a reason that is gone."""
    store = new_store()
    first = swept(store, space={"slow": [30, 7], "bad": 8, "stop": STOP, "fast": [8, 5]})
    assert (runs["trials"], first.ledger.summary.ok, first.ledger.summary.failed) == (24, 12, 12)
    second = swept(store)
    assert runs["trials"] == 24 + 120 - 12
    assert (reused(second), rows_of(second)) == ({first.id: 12}, rows_of(whole))
    assert gather(second.resolved, second.metadata["datasets"]).counts == {first.id: 12, second.id: 84}
    third = swept(store)
    assert runs["trials"] == 24 + 120 - 12 + 24
    assert reused(third) == {first.id: 12, second.id: 84}  # whoever ran it, not whoever has it too
    assert rows_of(third) == rows_of(whole)
    assert reused(swept(store, reused=False)) == {}
    assert runs["trials"] == 24 + 120 - 12 + 24 + 120


@pytest.mark.parametrize("search", [{}, {"method": "local", "trials": 24, "round": 8}], ids=["grid", "local"])
def test_a_session_that_reuses_is_stopped_and_resumed(runs: Counter[str], search: dict[str, Any]) -> None:
    store = new_store()
    earlier = swept(store, space={"fast": [2, 5, 9], "slow": SLOW, "stop": [0.02, None], "bad": 8})
    alone = swept(new_store(), search=search)
    before = runs["trials"]
    session = swept(store, 3, stopped_at(10), search=search)
    assert session.status == "interrupted"
    while session.status != "done":
        session = resume(Session(session.folder), "serial", stopped_at(session.ledger.done.total() + 10), 3)
    assert rows_of(session) == rows_of(alone)
    took = reused(session)
    assert took == {earlier.id: len(points_of(earlier) & points_of(alone))} != {earlier.id: 0}
    assert runs["trials"] - before == 2 * len(session.points) - took[earlier.id]


def test_a_session_is_whole_when_its_sources_are_gone(tmp_path: Path, whole: Session) -> None:
    store = tmp_path / "results"
    first, second = swept(str(store), 50), swept(str(store), 7)
    for path in sorted(first.folder.provider.list()):
        if first.id in path:
            first.folder.provider.delete(path)
    assert rows_of(Session(second.folder)) == rows_of(whole)
    found = audit(second.folder, 1000, 1)
    assert (found.damage, found.unchecked) == ([], [])
    assert (found.recomputed, found.reused) == (96, 96)


OTHER = {
    "fee": {"execution": {"fee": 0.002}},
    "path through the engine": {"execution": {"fast_path": False}},
    "hold-out": {"validation": {"blocks": 4, "holdout": 0.2}},
    "blocks": {"validation": {"blocks": 8, "holdout": 0.1}},
    "span": {"data": {**sweep_of("")["data"], "end": "2005-06-01"}},
    "symbol": {"data": {**sweep_of("")["data"], "symbols": ["MSFT"]}},
    "parameter": {"space": {"fast": FAST, "slow": SLOW, "stop": STOP}},
    "value": {"space": {"fast": FAST, "slow": SLOW, "stop": STOP, "bad": 7}},
}


@pytest.mark.parametrize("what", OTHER)
def test_under_other_conditions_all_is_run(what: str) -> None:
    store = new_store()
    swept(store)
    session = swept(store, **OTHER[what])
    assert (reused(session), session.ledger.summary.ok > 0) == ({}, True)
    assert reused(swept(store, objective={"minimize": "volatility"}, name="other")) != {}  # these decide no row


def test_of_another_strategy_engine_or_machine_nothing_is_taken() -> None:
    store = new_store()
    swept(store)
    resolved = resolve(Sweep(**sweep_of(store)))
    facts = rehearse.rehearse(resolved).datasets
    assert len(gather(resolved, facts)) == 96
    for where, name, other in [
        (sources, "ENGINE_VERSION", "other"),
        (reuse, "machine_kind", lambda: "other"),
        (resolved.strategy, "source_hash", lambda: "other"),
    ]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, name, other)
            assert len(gather(resolved, facts)) == 0, name
    others = [{**one, "fingerprint": "0" * 64} for one in facts]
    assert len(gather(resolved, others)) == 0
    assert len(gather(resolved, [others[0], facts[1]])) == 48
    shelf = gather(resolved, facts)
    known = shelf.known(0, resolved.points, np.arange(60))
    assert known is not None
    evaluator, loaded = evaluate.Evaluator(resolved), resolved.load(0)
    assert evaluator.evaluate(WorkUnit(0, 0, 60), loaded, known).ran == 12
    elsewhere = evaluator.evaluate(WorkUnit(0, 0, 60), loaded, replace(known, machine="other"))
    assert (elsewhere.ran, elsewhere.summary.reused) == (60, ())


def test_a_point_is_what_the_strategy_is_given_whatever_the_space_says(runs: Counter[str]) -> None:
    """A parameter without a part stands at its first value; a sweep that has it there by itself has the same point."""
    store, fast = new_store(), {"fast": [2, 5]}
    first = swept(store, space={**fast, "stop": [0.02, 0.05], "slow": [20]})
    before = runs["trials"]
    when = {"stop": {"values": [0.02, 0.05], "when": "fast > 2"}, "slow": [20]}
    assert reused(swept(store, space={**when, **fast})) == {first.id: 6}
    other = {"stop": {"values": [0.01, 0.05], "when": "fast > 2"}, "slow": [20]}
    assert reused(swept(store, space={**other, **fast})) == {first.id: 2}
    assert runs["trials"] - before == 4


EXACT = """
from strategies import Signals, Strategy, cross

class Exact(Strategy):
    at: float = 0.0

    def signals(self, bars):
        up = cross(bars.sma(5), bars.sma(20 if str(self.at).startswith("-") else 40))
        return Signals(up.entries, up.exits)
"""


def test_a_value_is_the_same_in_type_and_in_every_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.0 is not -0.0, which is another trial here, and 1 is not 1.0."""
    (tmp_path / "exact_values.py").write_text(EXACT)
    monkeypatch.syspath_prepend(str(tmp_path))
    store = new_store()

    def swept_at(store: str, *values: float) -> Session:
        return swept(store, strategy="exact_values:Exact", space={"at": list(values)})

    first = swept_at(store, 0.0, 0.5)
    session = swept_at(store, -0.0, 0.5)
    assert reused(session) == {first.id: 2}
    assert rows_of(session) == rows_of(swept_at(new_store(), -0.0, 0.5)) != rows_of(first)
    assert math.copysign(1, session.trials(["at"])["at"][0].as_py()) == -1
    assert reused(swept_at(store, 0, 1)) == {}
    assert reused(swept_at(store, 1.0, 0.5)) == {first.id: 2}


def test_small_batches_of_several_machines_are_of_none_when_they_are_joined() -> None:
    here, there = batch(0, 10), replace(batch(10, 20), machine="there")
    assert [part.machine for _, part in join_small([here, batch(20, 30)], 5)] == [machine_kind()]
    assert [part.machine for _, part in join_small([here, there], 5)] == [""]
    assert [part.machine for _, part in join_small([there], 5)] == ["there"]
    assert [part.machine for part in without(there, Ranges([(12, 15)]), OBJECTIVE, 5)] == ["there"] * 2


def test_a_part_of_several_machines_is_not_taken() -> None:
    """Small batches of two kinds of worker that were joined into one."""
    store = new_store()
    session = swept(store, 60)
    resolved, facts = session.resolved, session.metadata["datasets"]
    for n, record in enumerate(session.folder.commits()):
        mixed = tuple(replace(p, summary={**p.summary, "machine": ""} if n == 0 else p.summary) for p in record.parts)
        provider_for(store).write(f"{session.id}/commits/{n:010d}.json", replace(record, parts=mixed).encode())
    assert len(gather(resolved, facts)) == 48


def make_odd(session: Session, record: CommitRecord) -> None:
    """Put numbers that are none, and signs of zero, into the rows of a record, with checksums that are right."""
    (part,) = record.parts
    table = decode(session.folder.read_part(part))
    odd = np.array([0x7FF8000000000001, -1, -(2**63), 0x7FF0000000000000], np.int64).view(np.float64)
    skew = np.resize(odd, table.num_rows)
    table = table.set_column(table.column_names.index("skew"), "skew", pa.array(skew))
    for name in BLOCK_COLUMNS:
        field = table.schema.field(name)
        moments = pa.FixedSizeListArray.from_arrays(pa.array(np.resize(odd[::-1], table.num_rows * 4)), type=field.type)
        table = table.set_column(table.column_names.index(name), field, moments)
    changed = session.folder.write_part(encode(table), part.rows, list(part.ranges), part.summary)
    path = f"{session.id}/commits/{record.n:010d}.json"
    session.folder.provider.write(path, replace(record, parts=(changed,)).encode())


def test_every_bit_of_a_number_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.conftest.check_sample", lambda _: 0)  # which would find that these rows are made up
    store = new_store()
    first = swept(store, 25)
    for record in list(first.folder.commits()):
        make_odd(first, record)
    second = swept(store, 13)
    names = ["trial_id", "skew", *BLOCK_COLUMNS, *METRICS[:3]]
    ok = pa.compute.is_valid(second.trials(["reused_from"])["reused_from"])
    assert sum(reused(second).values()) == 96
    was, came = (bits(s.trials(names).filter(ok)) for s in (Session(first.folder), second))
    assert was == came
    assert -(2**63) in came["skew"][1]


def flip(store: Path, path: str, at: int = 300) -> None:
    data = bytearray((store / path).read_bytes())
    data[at] ^= 4
    (store / path).write_bytes(data)


def damage_part(store: Path, session: Session) -> None:
    flip(store, f"{session.id}/{session.ledger.parts[0].path}")


def drop_part(store: Path, session: Session) -> None:
    (store / session.id / session.ledger.parts[0].path).unlink()


def damage_record(store: Path, session: Session) -> None:
    flip(store, f"{session.id}/commits/0000000001.json")


def change_metadata(store: Path, session: Session) -> None:
    """The fingerprint is that of another sweep now."""
    path = store / session.id / "metadata.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "sweep": {**said["sweep"], "constraints": ["fast < slow"]}}))


def forget_metadata(store: Path, session: Session) -> None:
    (store / session.id / "metadata.json").unlink()


def old_metadata(store: Path, session: Session) -> None:
    path = store / session.id / "metadata.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "strategy_source"}))


@pytest.mark.parametrize(
    ("spoil", "taken", "told"),
    [
        (damage_part, 72, "its checksum is not the committed one"),
        (drop_part, 72, "there is no such object"),
        (damage_record, 0, "nothing is reused of session"),
        (change_metadata, 0, ""),
        (forget_metadata, 0, ""),
        (old_metadata, 0, ""),
    ],
)
def test_what_is_damaged_or_cannot_be_proven_is_run_again(
    tmp_path: Path,
    whole: Session,
    caplog: pytest.LogCaptureFixture,
    spoil: Any,
    taken: int,
    told: str,
) -> None:
    first = swept(str(tmp_path), 30)
    spoil(tmp_path, first)
    with caplog.at_level(logging.WARNING, "grid.reuse"):
        second = swept(str(tmp_path))
    assert sum(reused(second).values()) == taken
    assert told in caplog.text
    assert (caplog.text == "") == (told == "")
    assert rows_of(second) == rows_of(whole)


def test_without_an_index_sessions_are_found_in_the_catalog(tmp_path: Path) -> None:
    first = swept(str(tmp_path))
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / CATALOG / "29990101-000000000-never-begun.json").write_text("{}")
    (tmp_path / CATALOG / "29990101-000000000-torn.json").write_text("{")
    assert reused(swept(str(tmp_path))) == {first.id: 96}


def test_of_sessions_that_are_in_no_index_the_newest_are_read() -> None:
    store = SessionStore(provider_for(new_store()))
    for n in range(70):
        store.announce(f"s{n:02d}", {"session_id": f"s{n:02d}"})
        if n == 0:
            store.render_index()
    read = [f"s{n:02d}" for n in range(69, 4, -1) if n != 60]
    assert [entry["session_id"] for entry in store.announced("s60")] == [*read, "s00"]


def test_no_more_is_looked_through_than_the_sweep_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store()
    first = swept(store, space={"fast": [5], "slow": SLOW, "stop": STOP})
    larger = swept(store, reused=False, space={"fast": [5, 9], "slow": SLOW, "stop": STOP})
    small = {"space": {"fast": [5], "slow": [7], "stop": [0.05]}}
    monkeypatch.setattr(sources, "MOST_ROWS", 30)
    monkeypatch.setattr(sources, "MOST_ROWS_A_TRIAL", 1)
    assert reused(swept(store, **small)) == {first.id: 2}  # 24 trials may be looked through, and 48 not
    monkeypatch.setattr(sources, "MOST_ROWS", 10)
    assert reused(swept(store, **small)) == {first.id: 2}  # those of the session before, which has two
    monkeypatch.setattr(sources, "MOST_ROWS", 100)
    monkeypatch.setattr(sources, "MOST_SOURCES", 2)
    other = {"space": {"fast": [9], "slow": [7], "stop": [0.05]}}
    assert reused(swept(store, **other)) == {}  # it is behind two newer ones
    monkeypatch.setattr(sources, "MOST_SOURCES", 9)
    assert sum(reused(swept(store, **other)).values()) == 2
    assert larger.ledger.summary.ok == 48


def test_where_there_is_no_room_all_is_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, whole: Session
) -> None:
    store = new_store()
    swept(store)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reuse.tempfile, "TemporaryFile", full)
    session = swept(store)
    assert (reused(session), rows_of(session)) == ({}, rows_of(whole))
    assert "no room for them" in caplog.text


def test_what_need_not_be_run_is_no_reason_to_start_ray() -> None:
    session = swept(new_store())
    metadata = {
        **session.metadata,
        "datasets": [{**d, "seconds_per_trial": 60.0} for d in session.metadata["datasets"]],
    }
    begun = Session(SessionFolder(session.folder.provider, "other"), metadata)
    assert choose("auto", begun, session.resolved) == "ray"
    assert choose("auto", begun, session.resolved, 120) == "serial"


def counted(store: str) -> dict[str, tuple[int, int]]:
    return {t.symbol: (t.sessions, t.trials) for t in ledger(SessionStore(provider_for(store)))}


def test_in_the_ledger_a_trial_counts_where_it_was_run(whole: Session) -> None:
    store = new_store()
    part = {"space": {"fast": [2, 5], "slow": SLOW, "stop": STOP, "bad": 8}}
    first = swept(store, **part)
    second = swept(store, 7)
    assert counted(store) == dict.fromkeys(SYMBOLS, (2, 60))
    together = {t.symbol: t for t in ledger(SessionStore(provider_for(store)))}
    for one in tried_by(whole):
        assert together[one.symbol].sharpe_sum == pytest.approx(one.sharpe_sum)
        assert together[one.symbol].variance == pytest.approx(one.variance)
    own = tried_by(second)
    assert [(t.symbol, t.ran_by, t.sessions, t.trials) for t in own] == [
        ("AAPL", None, 1, 36),
        ("AAPL", first.id, 0, 24),
        ("IBM", None, 1, 36),
        ("IBM", first.id, 0, 24),
    ]
    swept(store, 11)  # the very same search again
    assert counted(store) == dict.fromkeys(SYMBOLS, (2, 60))
    provider = first.folder.provider
    provider.delete(f"{CATALOG}/{first.id}.json")
    assert counted(store) == dict.fromkeys(SYMBOLS, (1, 60))


def test_of_a_search_that_was_cut_short_and_repeated_every_trial_counts() -> None:
    """The one that got furthest has rows of the other, which is the same search and not counted beside it."""
    store = new_store()
    stopped = swept(store, 10, stopped_at(70))
    again = swept(store)
    assert 0 < sum(reused(again).values()) == stopped.ledger.summary.ok < 96
    assert counted(store) == dict.fromkeys(SYMBOLS, (1, 60))
    assert isinstance(tried_by(again)[0], Tried)


def test_verify_recomputes_reused_rows(tmp_path: Path) -> None:
    swept(str(tmp_path), 60)
    second = swept(str(tmp_path), 60)
    assert (audit(second.folder, 500, 1).recomputed, audit(second.folder, 500, 1).reused) == (96, 96)
    make_odd(second, next(second.folder.commits()))
    told = [d.what for d in audit(second.folder, 500, 1).damage if d.where.startswith("trial ")]
    assert len(told) == 48
    assert set(told) == {f"comes out otherwise in skew, {', '.join(BLOCK_COLUMNS)}"}


@pytest.mark.parametrize("method", ["local", "sobol", "tpe"])
def test_verify_asks_for_the_rounds_again(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = {"round": 8} if method != "sobol" else {}
    session = swept(new_store(), search={"method": method, "trials": 24, "seed": 3, **rounds})
    found = audit(session.folder, 3, 1)
    assert (found.rounds, found.damage, found.unchecked) == (3 if rounds else 1, [], [])
    with pytest.MonkeyPatch.context() as patch:  # by another seed, and by other results
        patch.setattr("grid.rounds._seed", lambda _: 12345)
        patch.setattr("grid.rounds.across", lambda *given: -across(*given))
        where = {d.where: d.what for d in audit(session.folder, 3, 1).damage}
        assert where
        assert set(where) <= ({"points [8, 16)", "points [16, 24)"} if rounds else {"points [0, 24)"})
        assert set(where.values()) == {"are not those that the search asks for after the rounds before"}
    monkeypatch.setattr("grid.verify.searched_with", lambda _: {"optuna": "0"})
    (reason,) = audit(session.folder, 3, 1).unchecked
    assert reason.startswith("no round was asked for again: the session was drawn with")


def test_a_store_is_not_listed_where_nothing_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = swept(str(tmp_path))
    monkeypatch.setattr(SessionStore, "announced", lambda *_: pytest.fail("the store was asked"))
    assert resume(Session(session.folder), "serial").status == "done"
    swept(str(tmp_path), reused=False)
    with pytest.raises(BadInput, match=r"results.reuse"):
        swept(str(tmp_path), results={"reuse": "perhaps"})
    assert LocalProvider(tmp_path).list(CATALOG)
