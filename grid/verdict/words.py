"""A verdict in words: one line a question, for people."""

import math
from typing import Any

from grid.verdict.costs import HIGHEST

MEANING = {
    "skill": "skill: every deciding check speaks for it.",
    "unproven": "not proven: a test for luck is passed, and not every deciding check.",
    "luck": "luck explains it: no test for luck is passed.",
    "void": "none: the results mean nothing (see doubt).",
    "unknown": "it cannot be had here, as trials cannot be run again (see data snooping for why).",
}
OF_ANOTHER = {
    "unproven": "not proven: a test of its own is passed, and not every deciding check.",
    "luck": "luck explains it: no test of its own is passed.",
}
"""Of a trial that is not the session's best, where that is another thing."""
COSTS = ("fee", "slippage")
MARKS = {True: "+", False: "-", None: "?"}


def meaning(found: dict[str, Any]) -> str:
    """The headline in words."""
    told = found["headline"]
    return MEANING[told] if found["trial_id"] == found["best_trial_id"] else OF_ANOTHER.get(told, MEANING[told])


def lines(found: dict[str, Any]) -> dict[str, str]:
    """The verdict as facts by name; + speaks for skill, - against it, ? cannot be said."""
    marks = [MARKS[check["passed"]] for check in found["checks"]]
    deflated, alone, reality, shuffled, over, walk, history, cost, plateau = marks
    luck = found["luck"]
    told = {
        "doubt": f"- the strategy {found['doubt']}" if found["doubt"] else "",
        "Sharpe ratio": _ratio(luck, found["simulated"]),
        "luck": f"{deflated} {luck_text(luck)}",
        "counted": _counted(luck, found["simulated"]),
        "others": _of_another(found),
        "history": f"{history} {_history(luck)}",
        "tested alone": _alone(alone, found["simulated"]),
        "data snooping": f"{reality} {_snooping(found['simulated'])}",
        "permutations": _permuted(shuffled, found["permutation"]),
        "overfitting": f"{over} {_overfitting(found['overfitting'])}",
        "walk-forward": f"{walk} {_walk(found['walk_forward'], found['simulated'])}",
        "cross-validation": _crossed(found["walk_forward"]),
        "plateau": f"{plateau} {_plateau(found['surface'])}",
        "parameters": _parameters(found["surface"]),
        "costs": f"{cost} {_costs(found['simulated'])}",
        "intervals": _intervals(found["simulated"]),
        "years": _years(found["simulated"]),
        "regimes": _regimes(found["simulated"]),
        "left out": _left_out(found["surface"]),
        "hold-out": _holdout(found["holdout"]),
    }
    return {name: text for name, text in told.items() if text}


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3g}"


def _many(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def percent(value: float | None, digits: int = 0) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def _part(section: Any, name: str) -> Any:
    return section.get(name) if isinstance(section, dict) else None


def _ratio(luck: dict[str, Any], simulated: Any) -> str:
    interval = _part(_part(_part(simulated, "intervals"), "days"), "sharpe")
    between = f", {number(interval[0])} to {number(interval[1])} with 90 %" if interval else ""
    alone = f"; above 0 with {percent(luck['probabilistic_sharpe'], 1)}, had nothing else been tried"
    return f"{number(luck['sharpe'])} a year over {luck['years']:.1f} years{between}{alone}"


def luck_text(luck: dict[str, Any]) -> str:
    """The deflated Sharpe ratio, and what it is deflated by."""
    return (
        f"deflated Sharpe ratio {percent(luck['deflated_sharpe'], 1)} (95 % is asked for): the best of "
        f"{luck['trials']:,} trials without skill is expected to show {number(luck['no_skill_sharpe'])}"
    )


def _counted(luck: dict[str, Any], simulated: Any) -> str:
    several = f" in {luck['sessions']} sessions of this store, {luck['trials_here']:,} of them here"
    where = several if luck["sessions"] > 1 else ""
    effective = _part(simulated, "effective")
    beside = ""
    if effective:
        beside = (
            f". By correlations of {effective['sampled']:,} of them they amount to {effective['by_mean']:,.0f} (mean) "
            f"or {effective['by_spectrum']:,.0f} (spectrum) independent ones"
        )
    return f"{luck['method']}{where}: {luck['trials']:,}{beside}{_on_everything(luck['trials_on_everything'])}"


def _on_everything(trials: int | None) -> str:
    if trials is None:
        return ""
    return (
        f". What is said below of blocks, and of trials that are run again, is over the {trials:,} run on everything. "
        "These were chosen on the same history, so it flatters and decides nothing: `grid permute` repeats the search"
    )


def _of_another(found: dict[str, Any]) -> str:
    """Of a trial that is not the session's best: which checks are not about it."""
    if found["trial_id"] == found["best_trial_id"]:
        return ""
    best = "which has none" if found["best_trial_id"] is None else f"trial {found['best_trial_id']:,}"
    return (
        f"data snooping, permutations, overfitting and walk-forward are about the session's best ({best}): they can "
        "speak against this trial, and not for it"
    )


def _history(luck: dict[str, Any]) -> str:
    years, least = luck["years"], luck["minimum_backtest_years"]
    needed = f"{years:.1f} years; in less than {least:.1f} luck alone shows a Sharpe ratio of 1"
    record = luck["minimum_track_record_years"]
    if math.isfinite(record):
        needed += f". One trial alone would need {record:.1f} years to be above 0 with 95 %"
    return needed


def _alone(mark: str, simulated: Any) -> str:
    found = _part(simulated, "reality")
    if not isinstance(found, dict):
        return ""
    return (
        f"{mark} that it does not beat cash: p {number(found['holm'])} after Holm, all {found['of']:,} trials counting"
    )


def _snooping(simulated: Any) -> str:
    if isinstance(simulated, str):
        return f"trials cannot be run again here: {simulated}"
    found = simulated["reality"]
    if isinstance(found, str):
        return found
    part = f"{found['trials']:,} of {found['of']:,} trials"
    bound = f"over {part}, so that p is a lower bound" if found["trials"] < found["of"] else "over all trials"
    against = simulated["against_buy_and_hold"]
    held = "" if isinstance(against, str) else f"; that it does not beat buy and hold: {number(against['p_value'])}"
    return (
        f"that no trial beats cash: p {number(found['spa'])} (SPA), {number(found['reality_check'])} (Reality Check), "
        f"{bound}{held}. Of the {found['leaders']} leaders {found['holm_leaders']} stand after Holm, "
        f"{found['benjamini_hochberg_leaders']} after Benjamini-Hochberg, among all trials"
    )


def _overfitting(over: Any) -> str:
    if isinstance(over, str):
        return f"not measured: {over}"
    return (
        f"probability of backtest overfitting {percent(over['pbo'])} over {over['trials']:,} trials and "
        f"{over['splits']:,} splits. The best in sample has a Sharpe ratio of {number(over['median_in_sample'])} there "
        f"and of {number(over['median_out_of_sample'])} out of sample (medians), below 0 in "
        f"{percent(over['probability_of_loss'])}; slope {number(over['degradation_slope'])}"
    )


def _walk(walks: Any, simulated: Any) -> str:
    if isinstance(walks, str):
        return f"not walked: {walks}"
    rolling, anchored = walks["rolling"], walks["anchored"]
    fresh = _part(simulated, "walk_forward_fresh")
    again = f"; {number(fresh['sharpe'])} with fresh starts" if fresh else ""
    return (
        f"choosing anew on past blocks, Sharpe ratio {number(rolling['sharpe'])} out of sample (rolling, "
        f"{len(rolling['folds'])} folds{again}), {number(anchored['sharpe'])} (anchored); in sample "
        f"{number(rolling['mean_in_sample'])}"
    )


def _crossed(walks: Any) -> str:
    if isinstance(walks, str):
        return ""
    found = walks["combinatorial"]
    known = sorted(x for x in found["sharpe_of_paths"] if math.isfinite(x))
    between = f"{number(known[0])} to {number(known[-1])}" if known else "-"
    return (
        f"{found['splits']} splits: in sample {number(found['mean_in_sample'])}, out of sample "
        f"{number(found['mean_out_of_sample'])}; along {_many(len(found['sharpe_of_paths']), 'path')} {between}"
    )


def _plateau(surface: Any) -> str:
    if isinstance(surface, str):
        return f"not measured: {surface}"
    if not surface["neighbours"]:
        return "no neighbour was tried"
    around, worst = _many(surface["neighbours"], "neighbour"), number(surface["worst_neighbour"])
    plateau = f"{number(surface['plateau'])} (median)"
    return f"score {number(surface['score'])}, with its {around} {plateau}; the worst of them {worst}"


def _parameters(surface: Any) -> str:
    found = surface["parameters"] if isinstance(surface, dict) else []
    return ", ".join(f"{p['name']} {percent(p['importance'])}" for p in found) + " of the variance" if found else ""


def _costs(simulated: Any) -> str:
    costs = _part(simulated, "costs")
    if not costs:
        return "not measured"
    if costs["fee"] is None:
        return f"there is no return to lose: it is {percent(costs['return_without_costs'], 1)} without any costs"
    told = [f"a {name} of {_cost(costs[name])} a side (it is {_cost(costs[f'{name}_now'])})" for name in COSTS]
    return f"the return is gone at {', or '.join(told)}"


def _cost(value: float | None) -> str:
    if value is None:  # of the slippage alone: the fee eats the return by itself
        return "0 % already"
    return "more than 50 %" if value >= HIGHEST else f"{100 * value:.3g} %"


def _intervals(simulated: Any) -> str:
    found = _part(simulated, "intervals")
    if not found:
        return ""
    days, trades = found["days"], found["trades"]
    told = f"with {percent(found['confidence'])}, days drawn anew: return {_span(days['total_return'])}, "
    told += f"drawdown {_span(days['max_drawdown'])}"
    if found["closed_trades"] >= 2:
        told += f"; its {found['closed_trades']} trades drawn anew: {_span(trades['total_return'])}, "
        told += f"drawdown {_span(trades['max_drawdown'])}"
    return told


def _span(pair: Any) -> str:
    return f"{percent(pair[0])} to {percent(pair[1])}"


def _years(simulated: Any) -> str:
    found = _part(simulated, "years") or []
    return ", ".join(f"{y['year']} {percent(y['total_return'])}" for y in found)


def _regimes(simulated: Any) -> str:
    found = _part(simulated, "regimes") or []
    return ", ".join(f"{r['regime']} {number(r['sharpe'])}" for r in found if r["days"])


def _left_out(surface: Any) -> str:
    if not isinstance(surface, dict):
        return ""
    told = [
        f"{entry[by]} {number(entry['score_left_out'])} (better than {percent(entry['rank_share'])})"
        for by in ("symbol", "timeframe")
        for entry in surface[f"{by}s_left_out"]
    ]
    return f"the best point of the others scores {', '.join(told)}" if told else ""


def _permuted(mark: str, found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    return (
        f"{mark} of {found['permutations']} searches on permuted bars {found['at_least_as_good']} found a best as good "
        f"as {number(found['real'])}: p {number(found['p_value'])}"
    )


def _holdout(looks: list[dict[str, Any]]) -> str:
    if not looks:
        return ""
    times = "once" if len(looks) == 1 else f"{len(looks)} times"
    return f"looked at {times}, first on {looks[0]['at'][:10]}: it is no longer unseen"
