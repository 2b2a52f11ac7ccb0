"""`grid data`: bring bars into a store, list them, check them, make coarser ones."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from grid.cli.options import held
from grid.cli.output import emit, tell
from grid.cli.remedies import options_named
from grid.cli.tables import counted
from grid.errors import BadInput
from storage.environment import default_zone
from storage.errors import BadData
from storage.gaps import GapReport, find_gaps
from storage.importing import ASSUMED_ZONE, ImportSpec, read_file
from storage.ohlcv import ADJUSTED, DatasetInfo, DatasetKey, OhlcvStore
from storage.providers import cached_provider_for, provider_for
from storage.resample import cut_short, resample
from storage.schema import Problem, timestamps, when
from storage.timeframes import TIMEFRAMES, calendar_of, folder_of

data_app = typer.Typer(
    name="data", help="Bring bars into a store, list, check and resample them.", no_args_is_help=True
)

Store = Annotated[str, typer.Option(help="The store of bars.", metavar="PATH", envvar="DATA_ROOT")]
Held = Annotated[
    str, typer.Option("--store", help="The store of bars.", metavar="PATH", envvar="DATA_ROOT", callback=held)
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace years that the store already holds.")]
Timeframe = Annotated[str, typer.Option(help=f"Of the bars: {' '.join(TIMEFRAMES)}.")]
Calendar = Annotated[str, typer.Option(help="When the market trades: 24/7, or XNYS for US equities.")]
AssumedCalendar = Annotated[str | None, typer.Option(help="24/7 or XNYS, where the files state none.")]
OnlySymbols = Annotated[list[str] | None, typer.Option("--symbol", help="Only this symbol; may be repeated.")]
Symbols = Annotated[
    list[str] | None,
    typer.Option("--symbol", help="Of the bars; for a file with a symbol column those to take, repeated."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="Our name = the file's, timestamp=Date; by number without header.", metavar="A=B"),
]
Zone = Annotated[
    str | None, typer.Option(help="Zone of timestamps that carry none: UTC, KST, Europe/London, ...; default TZ.")
]
TimeFormat = Annotated[
    str | None, typer.Option(help="A strptime format, or epoch-s, epoch-ms, epoch-us, epoch-ns; default ISO 8601.")
]
AdjustBy = Annotated[
    str | None,
    typer.Option(help="Column of adjusted closes: prices are multiplied by it / close.", metavar="COLUMN"),
]
Adjusted = Annotated[
    str | None,
    typer.Option(help="Are prices adjusted for splits and dividends: yes, no, unknown. Equities must say."),
]
Header = Annotated[bool, typer.Option("--header/--no-header", help="Is the first row of a CSV file a header.")]
Delimiter = Annotated[str, typer.Option(help="Between the cells of a CSV file.")]
Sort = Annotated[bool, typer.Option("--sort", help="Accept rows in any order of time.")]


@data_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV (also .gz, .bz2, .zst) or Parquet.")],
    timeframe: Timeframe,
    calendar: Calendar,
    store: Store = "data",
    symbols: Symbols = None,
    columns: Columns = None,
    tz: Zone = None,
    time_format: TimeFormat = None,
    adjust_by: AdjustBy = None,
    adjusted: Adjusted = None,
    header: Header = True,
    delimiter: Delimiter = ",",
    sort: Sort = False,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Import a CSV or Parquet file of bars.

    One bad row refuses the whole file: nothing is repaired and nothing is written.
    """
    state = _adjustment(adjusted, adjust_by, calendar)
    spec = ImportSpec(
        timeframe=timeframe,
        symbols=tuple(symbols or ()),
        columns=_mapping(columns or ()),
        zone=tz,
        default_zone=default_zone(),
        time_format=time_format,
        adjust_by=adjust_by,
        header=header,
        delimiter=delimiter,
        sort=sort,
    )
    with options_named():
        tables = read_file(file, spec)
        paths = OhlcvStore(provider_for(store)).write_all(tables, calendar, state, replace)
    _tell_written(tables, calendar, state, paths, as_json)


@data_app.command("ls")
def ls(store: Held = "data", as_json: Json = False) -> None:
    """List the datasets of a store."""
    bars = OhlcvStore(cached_provider_for(store))
    infos = [bars.describe(key) for key in bars.datasets()]
    emit([_info(info) for info in infos], as_json, lambda console: _draw_infos(infos, bars, console))


@data_app.command("check")
def check(
    store: Store = "data",
    symbols: OnlySymbols = None,
    calendar: AssumedCalendar = None,
    as_json: Json = False,
) -> None:
    """Check every bar against the rules, and report gaps. Bad rows make the command fail; gaps are facts."""
    bars = OhlcvStore(cached_provider_for(store))
    if calendar is not None:
        calendar_of(calendar)
    keys = _chosen(bars, symbols or ())
    found = {key: bars.problems(key) for key in keys}
    gaps = {key: None if found[key] else _gaps(bars, key, calendar) for key in keys}
    strays = bars.strays()
    payload = {
        "store": bars.provider.uri,
        "datasets": [_checked(key, found[key], gaps[key]) for key in keys],
        "not_in_layout": strays,
    }
    emit(payload, as_json, lambda console: _draw_check(found, gaps, strays, console))
    _fail_if_bad([str(problem) for problems in found.values() for problem in problems], strays, bars)


@data_app.command("resample")
def resample_(
    symbol: Annotated[str, typer.Argument(help="The symbol to resample.")],
    source: Annotated[str, typer.Option("--from", help="Timeframe of the bars to read.")],
    target: Annotated[str, typer.Option("--to", help="Timeframe of the bars to write.")],
    store: Store = "data",
    calendar: AssumedCalendar = None,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Write coarser bars of one symbol into the same store. Buckets follow the UTC calendar."""
    bars, key = OhlcvStore(cached_provider_for(store)), DatasetKey(symbol, source)
    info = bars.describe(key)
    stated = _one_calendar(info, calendar)
    finer = bars.read(key)
    table = resample(finer, target)
    state = info.adjusted or "unknown"
    with options_named():
        paths = bars.write(table, stated, state, replace)
    _tell_written([table], stated, state, paths, as_json)
    for bucket in cut_short(finer, table, 7 - calendar_of(stated).days_per_week):
        tell(f"the bar of {when(bucket)} is made of part of its time: the {source} bars begin later or end earlier")


def _adjustment(stated: str | None, adjust_by: str | None, calendar: str) -> str:
    """What the store will say about the prices; nothing to adjust in a market without splits."""
    open_always = calendar_of(calendar).days_per_week == 7
    if stated is not None and stated not in ADJUSTED:
        raise BadInput(f"--adjusted {stated!r} is not one of {', '.join(ADJUSTED)}.")
    if adjust_by is not None:
        if stated not in (None, "yes"):
            raise BadInput(f"--adjust-by makes the prices adjusted, so --adjusted {stated} cannot be; leave it out.")
        return "yes"
    if stated is None and not open_always:
        raise BadInput(
            f"Prices of calendar {calendar} may or may not be adjusted for splits and dividends: say --adjusted yes, "
            "no or unknown, or adjust them with --adjust-by COLUMN."
        )
    return stated or "no"


def _mapping(columns: Sequence[str]) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for column in columns:
        ours, equals, theirs = column.partition("=")
        if not (ours and equals and theirs) or ours in mapping:
            raise BadInput(f"--column {column!r} should be our name = the file's, once each, as timestamp=Date.")
        mapping[ours] = theirs
    return mapping


def _chosen(bars: OhlcvStore, symbols: Sequence[str]) -> list[DatasetKey]:
    keys = bars.datasets()
    if not keys and not bars.strays():
        raise BadInput(f"{bars.provider.uri} holds no bars: name another store with --store, or import some.")
    for symbol in symbols:
        folder_of(symbol)
        if all(key.symbol != symbol for key in keys):
            held = ", ".join(sorted({key.symbol for key in keys})) or "nothing"
            raise BadInput(f"There are no bars of {symbol} in {bars.provider.uri}; it holds {held}.")
    return [key for key in keys if not symbols or key.symbol in symbols]


def _one_calendar(info: DatasetInfo, calendar: str | None) -> str:
    if info.calendar and calendar and info.calendar != calendar:
        raise BadInput(f"The files of {info.key} state the calendar {info.calendar}, not {calendar}.")
    known = info.calendar or calendar
    if known is None:
        raise BadInput(f"The files of {info.key} state no calendar; say --calendar 24/7 or --calendar XNYS.")
    return known


def _gaps(bars: OhlcvStore, key: DatasetKey, calendar: str | None) -> GapReport | None:
    """None where nobody states a calendar: what is missing is then unknown."""
    known = bars.calendar(key) or calendar
    return bars.gaps(key, calendar=known) if known else None


def _info(info: DatasetInfo) -> dict[str, Any]:
    named = {"symbol": info.key.symbol, "timeframe": info.key.timeframe, "rows": info.rows}
    span = {"first": info.first.isoformat(), "last": info.last.isoformat(), "years": list(info.years)}
    return {**named, **span, "bytes": info.bytes, "calendar": info.calendar, "adjusted": info.adjusted}


def _checked(key: DatasetKey, found: Sequence[Problem], gaps: GapReport | None) -> dict[str, Any]:
    return {
        "symbol": key.symbol,
        "timeframe": key.timeframe,
        "problems": [asdict(problem) for problem in found],
        "gaps": gaps and _gap_payload(gaps),
    }


def _gap_payload(gaps: GapReport) -> dict[str, Any]:
    listed = [{"after": gap.after.isoformat(), "missing": gap.missing} for gap in gaps.gaps]
    return {"rows": gaps.rows, "missing": gaps.missing, "rule": gaps.rule, "gaps": listed}


def _tell_written(
    tables: Sequence[pa.Table], calendar: str, adjusted: str, paths: Sequence[str], as_json: bool
) -> None:
    datasets = [_written(table, calendar) for table in tables]
    assumed = next((table.schema.metadata[ASSUMED_ZONE].decode() for table in tables if _is_assumed(table)), None)
    stated = {"calendar": calendar, "adjusted": adjusted, "zone_by_tz": assumed}
    payload = {"datasets": datasets, **stated, "files": list(paths)}
    emit(payload, as_json, lambda console: _draw_written(payload, console))


def _is_assumed(table: pa.Table) -> bool:
    return ASSUMED_ZONE in (table.schema.metadata or {})


def _written(table: pa.Table, calendar: str) -> dict[str, Any]:
    times, timeframe = timestamps(table), table.column("timeframe")[0].as_py()
    return {
        "symbol": table.column("symbol")[0].as_py(),
        "timeframe": timeframe,
        "first": when(times[0]).isoformat(),
        "last": when(times[-1]).isoformat(),
        **_gap_payload(find_gaps(times, timeframe, calendar)),
    }


def _draw_written(payload: dict[str, Any], console: Console) -> None:
    for one in payload["datasets"]:
        span = f"{one['first']} to {one['last']}"
        name = f"{one['symbol']} {one['timeframe']}: {counted(one['rows'], 'bar')}, {span}"
        told = f"{name}; missing: {one['missing']} ({one['rule']})"
        console.print(told, markup=False, soft_wrap=True)
    if payload["zone_by_tz"]:
        console.print(f"Times without a zone were taken as {payload['zone_by_tz']}, as TZ says.", soft_wrap=True)
    stated = f"calendar {payload['calendar']}, adjusted {payload['adjusted']}"
    console.print(f"{counted(len(payload['files']), 'file')} written ({stated}).", soft_wrap=True)


def _draw_infos(infos: Sequence[DatasetInfo], bars: OhlcvStore, console: Console) -> None:
    if not infos:
        console.print(f"There are no datasets in {bars.provider.uri}.", markup=False, soft_wrap=True)
        return
    names = ("symbol", "timeframe", "rows", "first", "last", "KiB", "calendar", "adjusted")
    table = Table(*names, box=None, pad_edge=False)
    for info in infos:
        first, last = (f"{time:%Y-%m-%d}" for time in (info.first, info.last))
        size, stated = f"{info.bytes / 1024:.0f}", (info.calendar or "-", info.adjusted or "-")
        table.add_row(info.key.symbol, info.key.timeframe, str(info.rows), first, last, size, *stated)
    console.print(table)


def _draw_check(
    found: dict[DatasetKey, list[Problem]],
    gaps: dict[DatasetKey, GapReport | None],
    strays: Sequence[str],
    console: Console,
) -> None:
    for key, problems in found.items():
        told = f"{counted(len(problems), 'problem')}" if problems else f"good, {_gap_words(gaps[key])}"
        console.print(f"{key}: {told}", markup=False, soft_wrap=True)
        for problem in problems:
            console.print(f"  {problem}", markup=False, soft_wrap=True)
    for path in strays:
        console.print(f"{path}: belongs to no dataset", markup=False, soft_wrap=True)


def _gap_words(gaps: GapReport | None) -> str:
    if gaps is None:
        return "gaps unknown, as no calendar is stated"
    longest = max(gaps.gaps, key=lambda gap: gap.missing, default=None)
    told = f", the longest of {longest.missing} after {longest.after.isoformat()}" if longest else ""
    return f"missing: {gaps.missing} ({gaps.rule}{told})"


def _fail_if_bad(problems: Sequence[str], strays: Sequence[str], bars: OhlcvStore) -> None:
    if problems:
        raise BadData(
            f"{bars.provider.uri} breaks the rules of the store in {counted(len(problems), 'place')}: {problems[0]}"
        )
    if strays:
        raise BadData(
            f"{bars.provider.uri}/{strays[0]} belongs to no dataset ({len(strays)} such files): Parquet files of a "
            "store are named SYMBOL/TIMEFRAME/YEAR.parquet, as in BTC_KRW/1D/2024.parquet."
        )
