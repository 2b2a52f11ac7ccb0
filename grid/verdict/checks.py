"""What a verdict comes to: which of its figures speak for skill, and one line in words."""

import math
from typing import Any

TRIAL, SESSION = "trial", "session"
LEVEL = 0.05
"""The level of every test here."""


def checks(found: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry a question that the verdict answers: name, whether it speaks for skill (None: cannot be said), whether
    the line in words hangs on it, and whether it is `of` the trial or of the session. The permutation test decides once
    it was made.

    Of successive halving the trials that saw all blocks were chosen on these same blocks, so what is measured over them
    cannot be said: the deflated Sharpe ratio and the permutation test, which knows the whole search, decide alone.
    """
    luck, cost, surface = found["luck"], _section(found, "simulated", "costs"), found["surface"]
    reality = _section(found, "simulated", "reality")
    over, walks = _section(found, "overfitting"), _section(found, "walk_forward")
    shuffled, chosen = found["permutation"] or {}, luck["trials_on_everything"] is not None
    if chosen:
        reality, over, walks = {}, {}, {}
    asked = [
        ("deflated Sharpe ratio at least 95 %", _at_least(luck["deflated_sharpe"], 1 - LEVEL), True, TRIAL),
        ("own p after Holm at 5 %", _at_most(reality.get("holm"), LEVEL), False, TRIAL),
        ("superior predictive ability at 5 %", _at_most(reality.get("spa"), LEVEL), not chosen, SESSION),
        (
            "permutations of the bars at 5 %",
            _at_most(shuffled.get("p_value"), LEVEL),
            bool(shuffled) or chosen,
            SESSION,
        ),
        ("probability of overfitting below 50 %", _below(over.get("pbo"), 0.5), not chosen, SESSION),
        ("walk-forward above 0", _above((walks.get("rolling") or {}).get("sharpe"), 0.0), not chosen, SESSION),
        ("history longer than luck needs", _above(luck["years"], luck["minimum_backtest_years"]), False, TRIAL),
        ("survives twice the costs", _twice(cost), False, TRIAL),
        ("stands on a plateau", _plateau(surface), False, TRIAL),
    ]
    return [{"check": name, "passed": passed, "decides": decides, "of": of} for name, passed, decides, of in asked]


def headline(answers: list[dict[str, Any]], best: bool = True) -> str:
    """skill, unproven or luck: all deciding checks pass, some do, or none of the tests for luck (the first four).

    best: whether it is about the session's best trial. The tests of the session are about that one: they speak against
    any other of its trials, but for none.
    """
    deciding = [a["passed"] for a in answers if a["decides"]]
    if all(deciding):
        return "skill"
    tests = [a for a in answers[:4] if best or a["of"] == TRIAL]
    return "unproven" if any(a["passed"] for a in tests) else "luck"


def _section(found: dict[str, Any], *names: str) -> dict[str, Any]:
    """A section, empty where it could not be made."""
    section: Any = found
    for name in names:
        section = section.get(name) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else {}


def _known(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _at_least(value: Any, limit: float) -> bool | None:
    return value >= limit if _known(value) else None


def _at_most(value: Any, limit: float) -> bool | None:
    return value <= limit if _known(value) else None


def _below(value: Any, limit: float) -> bool | None:
    return value < limit if _known(value) else None


def _above(value: Any, limit: float) -> bool | None:
    return value > limit if _known(value) and _known(limit) else None


def _twice(cost: dict[str, Any]) -> bool | None:
    """Whether the return is positive at twice the fee, and at twice the slippage."""
    if not cost:
        return None
    pairs = ((cost["fee"], cost["fee_now"]), (cost["slippage"], cost["slippage_now"]))
    return all(even is not None and even > 2 * now for even, now in pairs)


def _plateau(surface: Any) -> bool | None:
    """Whether the median of the neighbourhood keeps half of the score."""
    if not isinstance(surface, dict) or not surface["neighbours"]:
        return None
    score, around = surface["score"], surface["plateau"]
    if not _known(score):
        return None
    return _known(around) and abs(around - score) <= abs(score) / 2
