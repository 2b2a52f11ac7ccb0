"""The sweep file as a model: every field, its bounds, its default and what it means.

`Sweep(...)` takes these models or plain dicts and raises BadInput for whatever is wrong. It goes to plain
JSON and back: `Sweep(**sweep.model_dump(mode="json")) == sweep`. The order of `space` numbers the trials,
so whoever stores the JSON must keep the order of its keys.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from grid.addresses import explained
from grid.dimensions import Dimension
from grid.engine.execution import Execution
from grid.engine.metrics import METRICS
from grid.errors import BadInput, nearest
from grid.explain import Origins, explain
from grid.expressions import compile_constraint
from grid.searchspec import Model, SearchSpec
from grid.space import space_from
from grid.validation.splits import Folds, Walk, combinatorial, walk_forward
from storage.environment import default_data_store
from storage.errors import StorageError
from storage.timeframes import CALENDARS, TIMEFRAMES, folder_of

ROW_COLUMNS = ("trial_id", "symbol", "timeframe", "status", "error", "reused_from", "history_share", *METRICS)
"""Columns a result row has besides its parameters, which may not have one of these names."""


def _one_or_more(given: Any) -> Any:
    """A single text stands for a list of one."""
    return [given] if isinstance(given, str) else given


_NO_DATE = "no date; write it as 2024-01-31 or 2024-01-31T09:00:00Z (UTC)"

Texts = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]


def _day_or_time(given: Any) -> Any:
    """A date, or a datetime in UTC where the time of day is not midnight."""
    if given is None:
        return None
    if isinstance(given, str):
        try:
            given = datetime.fromisoformat(given.strip())
        except ValueError:
            raise ValueError(_NO_DATE) from None
    if not isinstance(given, date):
        raise ValueError(_NO_DATE)
    if not 1700 <= given.year <= 2200:
        raise ValueError("timestamps in nanoseconds hold the years 1700 to 2200")
    if not isinstance(given, datetime):
        return given
    moment = given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)
    return moment.date() if moment.time() == datetime.min.time() else moment


Moment = Annotated[datetime | date, BeforeValidator(_day_or_time)]


class DataSpec(Model):
    """Which bars: every symbol in every timeframe, over the half-open span [start, end) in UTC."""

    store: str = Field(
        default_factory=default_data_store, min_length=1, description="the folder or URI that holds the OHLCV files"
    )
    symbols: Texts | Literal["all"] = Field(description="a list such as [KRW-BTC, KRW-ETH], or all")
    timeframes: Texts = Field(description=f"a list out of {' '.join(TIMEFRAMES)}")
    start: Moment | None = Field(default=None, description="the first day (UTC); all there is when left out")
    end: Moment | None = Field(default=None, description="the day after the last (UTC); all there is when left out")
    calendar: str | None = Field(
        default=None, description=f"{' or '.join(CALENDARS)}, where the files do not state one themselves"
    )

    @field_validator("symbols", mode="before")
    @classmethod
    def _all_is_no_symbol(cls, given: Any) -> Any:
        return given if given == "all" else _one_or_more(given)

    @field_validator("symbols", "timeframes")
    @classmethod
    def _some_and_each_once(cls, given: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if isinstance(given, tuple):
            if not given:
                raise ValueError("name one or more")
            for item in given:
                if given.count(item) > 1:
                    raise ValueError(f"{item!r} is named twice")
        return given

    @field_validator("symbols")
    @classmethod
    def _can_be_stored(cls, given: tuple[str, ...] | str) -> tuple[str, ...] | str:
        for symbol in given if isinstance(given, tuple) else ():
            try:
                folder_of(symbol)
            except StorageError as error:
                raise ValueError(str(error).rstrip(".")) from None
        return given

    @field_validator("timeframes")
    @classmethod
    def _known_timeframes(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for name in given:
            if name not in TIMEFRAMES:
                known = " ".join(TIMEFRAMES)
                raise ValueError(f"there is no timeframe {name!r}{nearest(name, TIMEFRAMES)}; there are {known}")
        return given

    @field_validator("calendar")
    @classmethod
    def _known_calendar(cls, given: str | None) -> str | None:
        if given is not None and given not in CALENDARS:
            raise ValueError(f"no known calendar{nearest(given, CALENDARS)}; known are {', '.join(CALENDARS)}")
        return given

    @model_validator(mode="after")
    def _starts_before_it_ends(self) -> Self:
        if self.start is not None and self.end is not None and _instant(self.start) >= _instant(self.end):
            raise ValueError(
                f"start {self.start} does not come before end {self.end}, which leaves no bar; start is the first day "
                "and end the day after the last"
            )
        return self


def _goal(text: str) -> tuple[str, bool]:
    way, _, metric = text.strip().partition(" ")
    metric = metric.strip()
    if way not in ("maximize", "minimize"):
        raise ValueError(f"{text!r} is no goal; write it like maximize calmar, or minimize max_drawdown")
    if metric not in METRICS:
        raise ValueError(f"{text!r}: no metric{nearest(metric, METRICS)}; metrics are {' '.join(METRICS)}")
    return metric, way == "maximize"


class Objective(Model):
    """What is best: one metric up or down, how it is joined across datasets, and what a result must fulfil."""

    maximize: str | None = Field(default=None, description="a metric, such as sharpe")
    minimize: str | None = Field(default=None, description="a metric, such as max_drawdown")
    across: Literal["median", "min", "mean"] = Field(
        default="median", description="how datasets are joined to one score"
    )
    require: Texts = Field(default=(), description='comparisons of metrics, such as ["total_trades >= 30"]')

    beside: Texts = Field(
        default=(), description='further goals, such as ["minimize max_drawdown"]: `grid top --pareto`, nsga2 and tpe'
    )

    @model_validator(mode="before")
    @classmethod
    def _sharpe_unless_told(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("maximize") is None and given.get("minimize") is None:
            return {**given, "maximize": "sharpe"}
        return given

    @field_validator("maximize", "minimize")
    @classmethod
    def _known_metric(cls, given: str | None) -> str | None:
        if given is not None and given not in METRICS:
            raise ValueError(f"no metric{nearest(given, METRICS)}; metrics are {' '.join(METRICS)}")
        return given

    @field_validator("require")
    @classmethod
    def _readable(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for text in given:
            compile_constraint(text, METRICS)
        return given

    @model_validator(mode="after")
    def _one_direction(self) -> Self:
        if self.maximize is not None and self.minimize is not None:
            raise ValueError(f"maximize: {self.maximize} and minimize: {self.minimize} are both given; give one")
        return self

    @model_validator(mode="after")
    def _goals_are_distinct(self) -> Self:
        metrics = [metric for metric, _ in self.goals]
        for metric in metrics:
            if metrics.count(metric) > 1:
                raise ValueError(f"{metric} is more than one goal")
        return self

    @property
    def goals(self) -> list[tuple[str, bool]]:
        """Each metric that counts, the one that ranks first, and whether more of it is better."""
        return [(self.metric, self.descending), *(_goal(text) for text in self.beside)]

    @property
    def metric(self) -> str:
        """The metric that ranks."""
        return self.maximize or self.minimize or "sharpe"

    @property
    def descending(self) -> bool:
        """Whether more is better."""
        return self.minimize is None


class WalkForward(Model):
    """How the verdict walks forward: choose on `train` blocks, look at the next `test` blocks, go on by as many."""

    train: int | None = Field(default=None, ge=1, description="blocks to choose on, or null for half of them")
    test: int = Field(default=1, ge=1, description="blocks to look at")
    purge: int = Field(default=0, ge=0, description="blocks left out between the two")


class CrossValidation(Model):
    """How the verdict cross-validates: every choice of `test_groups` among `groups` equal groups of blocks."""

    groups: int | None = Field(default=None, ge=2, description="groups of blocks, or null for 8, or one a block")
    test_groups: int = Field(default=2, ge=1, description="groups that are tested at a time; 1 is k-fold")
    purge: int = Field(default=0, ge=0, description="blocks left out before and after those tested")
    embargo: int = Field(default=0, ge=0, description="further blocks left out after those tested")


class Validation(Model):
    """How the span is cut (equal blocks whose moments every trial keeps, then a hold-out), and how it is judged."""

    blocks: int = Field(default=16, ge=1, le=1000, description="equal slices of the span")
    holdout: float = Field(
        default=0.0, ge=0, le=0.9, description="the fraction at the end of the span that the sweep never sees"
    )
    walk_forward: WalkForward = WalkForward()
    cross_validation: CrossValidation = CrossValidation()

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if self.blocks != 1 and (self.blocks % 2 or self.blocks < 4):
            raise ValueError(
                f"blocks is {self.blocks}: the tests pair halves of the blocks, so give an even number of at least 4, "
                "or 1 to do without them"
            )
        if self.blocks > 1:
            self._try("walk_forward", lambda: walk_forward(self.blocks, self.walk(False)))
            self._try("cross_validation", lambda: combinatorial(self.blocks, self.folds()))
        return self

    def walk(self, anchored: bool) -> Walk:
        """The walk-forward over blocks, rolling or anchored at the first block."""
        asked = self.walk_forward
        return Walk(asked.train or max(self.blocks // 2, 1), asked.test, asked.purge, anchored)

    def folds(self) -> Folds:
        """The cross-validation over blocks."""
        asked = self.cross_validation
        return Folds(asked.groups or min(8, self.blocks), asked.test_groups, asked.purge, asked.embargo)

    def _try(self, name: str, make: Callable[[], object]) -> None:
        try:
            make()
        except ValueError as error:
            raise ValueError(f"{name} does not fit {self.blocks} blocks: {error}") from None


class ResultsSpec(Model):
    """Where results go, how many trials keep their trades and curves, and whether earlier rows are taken over."""

    store: str = Field(default="results", min_length=1, description="the folder or URI that sessions are written to")
    keep_best: int = Field(default=20, ge=0, description="how many of the best trials keep trades, curve and signals")
    reuse: bool = Field(default=True, description="take over rows of trials that were run before (docs/search.md)")


class ClusterSpec(Model):
    """Where the work runs."""

    address: str | None = Field(default=None, description="a cluster's address, or null for this machine")
    cpus: int | None = Field(default=None, ge=1, description="how many CPUs to use, or null for all")
    price_per_cpu_hour: float | None = Field(default=None, ge=0, description="for estimates of cost, in any currency")

    @field_validator("address")
    @classmethod
    def _reachable_kind(cls, given: str | None) -> str | None:
        return None if given is None else explained(given)


class Sweep(Model):
    """One request: a strategy over a search space on datasets, how it is executed, judged and stored."""

    name: str = Field(
        default="sweep",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="letters, digits, dots, dashes and underscores, 100 at most",
    )
    strategy: str = Field(min_length=1, description="a registered name, or module:Class")
    data: DataSpec = Field(description="a section with symbols, timeframes, start and end")
    space: dict[str, Dimension] = Field(description="parameters and their values, such as fast: {range: [5, 50, 5]}")
    constraints: Texts = Field(default=(), description='comparisons of parameters, such as ["fast < slow"]')
    search: SearchSpec = SearchSpec()
    execution: Execution = Execution.model_validate({})
    objective: Objective = Objective()
    validation: Validation = Validation()
    results: ResultsSpec = ResultsSpec()
    cluster: ClusterSpec = ClusterSpec()

    @model_validator(mode="wrap")
    @classmethod
    def _say_it_in_words(cls, given: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        try:
            return handler(given)
        except ValidationError as error:
            origins = info.context if isinstance(info.context, Origins) else Origins()
            raise BadInput(explain(error, cls, given, origins)) from None

    @field_validator("space")
    @classmethod
    def _names_are_free(cls, given: dict[str, Dimension]) -> dict[str, Dimension]:
        for name in given:
            if not name.isidentifier():
                raise ValueError(f"the parameter {name!r} is no name: letters, digits and underscores")
            if name in ROW_COLUMNS:
                raise ValueError(f"the parameter {name!r} has the name of a result; rename it in the strategy")
        return given

    @model_validator(mode="after")
    def _space_and_constraints_fit(self) -> Self:
        space_from(self.space, self.constraints)
        return self


def _instant(moment: date) -> datetime:
    if isinstance(moment, datetime):
        return moment
    return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
