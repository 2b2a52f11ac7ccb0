"""The section `search` of a sweep file, and what all sections have in common."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

ADAPTIVE = ("tpe", "cmaes", "nsga2", "local")
"""Search methods that learn from results, round by round."""
HALVING = "halving"
"""The search method whose first rounds run over a part of history and datasets."""
LEAST_ROUND = 8
MOST_ASKED = 10_000_000
"""Points of a search whose points do not follow from their numbers."""


class Model(BaseModel):
    """Frozen, closed to unknown fields, and without NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SearchSpec(Model):
    """Which points of the space are tried: all of them, or as many as asked for, chosen by a method."""

    method: Literal["grid", "random", "sobol", "lhs", "tpe", "cmaes", "nsga2", "local", "halving"] = Field(
        default="grid", description="grid tries every point, the others choose (docs/search.md)"
    )
    trials: int | None = Field(
        default=None, ge=1, description="how many points per dataset are tried; all by method grid"
    )
    seed: int = Field(default=0, ge=0, description="what is chosen, and in which order, belongs to this number")
    round: int | None = Field(
        default=None, ge=2, description="points an adaptive method asks for together; by default a twentieth of trials"
    )

    @model_validator(mode="before")
    @classmethod
    def _a_twentieth_unless_told(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("method") not in ADAPTIVE or given.get("round") is not None:
            return given
        trials = given.get("trials")
        if not isinstance(trials, int) or trials < 4:
            return given
        return {**given, "round": min(max(LEAST_ROUND, -(-trials // 20)), trials // 2)}

    @model_validator(mode="after")
    def _trials_where_they_belong(self) -> Self:
        if self.method != "grid" and self.trials is None:
            raise ValueError(f"method {self.method} needs trials, the number of points to try, such as trials: 1000")
        if self.method == "grid" and self.trials is not None:
            raise ValueError("method grid tries every point and takes no trials; drop trials, or say method: random")
        if self.method not in ("grid", "random") and (self.trials or 0) > MOST_ASKED:
            raise ValueError(
                f"method {self.method} keeps its points in memory, {MOST_ASKED:,} at most; ask for fewer, or say "
                "method: random"
            )
        return self

    @model_validator(mode="after")
    def _rounds_where_they_belong(self) -> Self:
        if self.method == HALVING:
            if self.round is not None:
                raise ValueError("method halving makes its rungs itself and takes no round; drop round")
        elif self.method not in ADAPTIVE:
            if self.round is not None:
                raise ValueError(f"method {self.method} does not learn from results and takes no round; drop round")
        elif self.trials is not None and (self.round is None or self.round >= self.trials):
            raise ValueError(
                f"method {self.method} learns from one round to the next, and trials: {self.trials} are no two rounds "
                f"of {self.round or 2}; ask for more trials, or say method: random"
            )
        return self
