"""Curves and bars: how fits went, how candidates compare, what components weigh and how well they fit."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.matching import mixture_of
from gmmdask.mixture import Mixture
from gmmdask.plot.style import (
    INK,
    LEGEND_COMPONENTS,
    QUALITATIVE,
    QUIET,
    colours,
    listed,
    new_axes,
    numbers_of,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
CRITERIA = {
    "behind": "held-out score behind the best\n(nats per row)",
    "score": "held-out score (nats per row)",
    "lower_bound": "lower bound (nats per row)",
    "bic": "BIC",
    "aic": "AIC",
    "icl": "ICL",
}
ERRORS = {"behind": "behind_error", "score": "score_error"}


def convergence(
    history: Sequence[Row], ax: "Axes | None" = None, others: Mapping[str, Sequence[float]] | None = None
) -> "Axes":
    """The lower bound after each lap, a line for each run.

    Parameters
    ----------
    history : one mapping a lap, with "lap", "lower_bound" (nats per row) and, where there are several, "run".
    others : lower bounds, lap by lap, of runs that stay in the background: a model's `provenance_["other_runs"]`.
    """
    ax = new_axes() if ax is None else ax
    draw_runs(ax, by_run(history), {name: np.asarray(bounds) for name, bounds in (others or {}).items()}, 1)
    ax.ticklabel_format(axis="y", useOffset=False)
    tidy(ax, "Convergence", "pass", "lower bound (nats per row)")
    return ax


def gains(
    history: Sequence[Row], ax: "Axes | None" = None, others: Mapping[str, Sequence[float]] | None = None
) -> "Axes":
    """What each lap has added to the lower bound, on a logarithmic scale; laps that added nothing are gaps.

    Parameters are those of `convergence`.
    """
    ax = new_axes() if ax is None else ax
    ax.set_yscale("log")
    runs = {name: (laps[1:], gained(bounds)) for name, (laps, bounds) in by_run(history).items()}
    draw_runs(ax, runs, {name: gained(np.asarray(bounds)) for name, bounds in (others or {}).items()}, 2)
    tidy(ax, "Gains", "pass", "gain (nats per row)")
    return ax


def by_run(history: Sequence[Row]) -> dict[str, tuple[Array, Array]]:
    """Laps and lower bounds of each run."""
    runs: dict[str, list[tuple[float, float]]] = {}
    for entry in history:
        runs.setdefault(str(entry.get("run", "fit")), []).append((float(entry["lap"]), float(entry["lower_bound"])))
    return {name: (np.array(points)[:, 0], np.array(points)[:, 1]) for name, points in runs.items()}


def gained(bounds: Array) -> Array:
    """From lap to lap; NaN for nothing."""
    found = np.diff(bounds)
    return np.where(found > 0, found, np.nan)


def draw_runs(ax: "Axes", runs: Mapping[str, tuple[Array, Array]], others: Mapping[str, Array], first: int) -> None:
    """A coloured line for each run, and thin ones, whose first point is of the lap `first`, behind them."""
    for values in others.values():
        ax.plot(np.arange(len(values)) + first, values, color=QUIET, linewidth=0.8, zorder=1)
    for (name, (laps, values)), colour in zip(runs.items(), colours(len(runs)), strict=True):
        marker = "o" if len(laps) <= 40 else ""
        ax.plot(laps, values, color=colour, linewidth=1.6, marker=marker, markersize=4, label=name)
    if 1 < len(runs) <= LEGEND_COMPONENTS:
        listed(ax)
    numbers_of(ax)


def selection(
    table: Any, ax: "Axes | None" = None, criterion: str = "behind", choices: Mapping[str, Row] | None = None
) -> "Axes":
    """A criterion against the number of components, a line for each covariance type, with its standard errors.

    Candidates that were not fitted to all rows are hollow, and no line goes through them; choices have a ring.

    Parameters
    ----------
    table : rows of `Selection.table_`; or a `Selection`, or what a model says of its own in `provenance_["selection"]`,
        which bring their choices.
    criterion : {"behind", "score", "bic", "icl", "aic", "lower_bound"}
        "behind" is how far the held-out score is below that of the best, with the error of the paired difference.
    choices : candidates that a rule has chosen, by the name of the rule.

    Raises
    ------
    ValueError
        If the criterion is unknown.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion={criterion!r}: expected one of {', '.join(CRITERIA)}.")
    ax = new_axes() if ax is None else ax
    if isinstance(table, Mapping):
        table, choices = table["table"], table.get("choices") if choices is None else choices
    choices = getattr(table, "choices_", None) if choices is None else choices
    rows = [row for row in getattr(table, "table_", table) if is_number(row.get(criterion))]
    kinds = list(dict.fromkeys(str(row["covariance_type"]) for row in rows))
    for at, kind in enumerate(kinds):
        mine = sorted((row for row in rows if row["covariance_type"] == kind), key=lambda row: row["components"])
        shift = 0.12 * (at - (len(kinds) - 1) / 2)  # error bars beside one another
        draw_candidates(ax, mine, criterion, shift, f"#{QUALITATIVE[at % len(QUALITATIVE)]}")
    ring_choices(ax, rows, criterion, kinds, choices or {})
    if criterion == "behind" and rows:
        ax.invert_yaxis()  # the best is above, as of every score
    if kinds:
        listed(ax)
    ax.margins(y=0.15)
    numbers_of(ax)
    tidy(ax, "Candidates", "components", CRITERIA[criterion])
    return ax


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def draw_candidates(ax: "Axes", rows: Sequence[Row], criterion: str, shift: float, colour: str) -> None:
    """The candidates of one covariance type, in the order of their components."""
    error = ERRORS.get(criterion, "")
    for fitted in (True, False):
        chosen = [row for row in rows if (row.get("state", "fitted") == "fitted") is fitted]
        if not chosen:
            continue
        x, y = [row["components"] + shift for row in chosen], [float(row[criterion]) for row in chosen]
        bars = [float(row[error]) if is_number(row.get(error)) else 0.0 for row in chosen] if error else None
        style: dict[str, Any] = {
            "linewidth": 1.4,
            "markersize": 4.5,
            "elinewidth": 1.0,
            "capsize": 2.0,
            "color": colour,
        }
        if fitted:
            ax.errorbar(x, y, bars, fmt="o-", label=rows[0]["covariance_type"], **style)
        else:
            name = "" if any(row not in chosen for row in rows) else f"{rows[0]['covariance_type']}"
            ax.errorbar(x, y, bars, fmt="o", markerfacecolor="white", alpha=0.7, label=name or "_", **style)


def ring_choices(
    ax: "Axes", rows: Sequence[Row], criterion: str, kinds: Sequence[str], choices: Mapping[str, Row]
) -> None:
    """A ring and a name for each candidate that was chosen."""
    told: dict[tuple[float, float], list[str]] = {}
    for rule, choice in choices.items():
        for row in rows:
            if all(row[key] == choice.get(key) for key in ("covariance_type", "components")):
                shift = 0.12 * (kinds.index(row["covariance_type"]) - (len(kinds) - 1) / 2)
                told.setdefault((row["components"] + shift, float(row[criterion])), []).append(rule.replace("_", " "))
    places = [row["components"] for row in rows]
    for at, ((x, y), rules) in enumerate(sorted(told.items())):
        ax.scatter([x], [y], s=110, facecolors="none", edgecolors=INK, linewidths=1.1, zorder=4)
        across = (x - min(places)) / max(max(places) - min(places), 1)
        side = "left" if across < 1 / 3 else "right" if across > 2 / 3 else "center"  # names stay inside
        name: dict[str, Any] = {"xytext": (0, 9 + 10 * at), "textcoords": "offset points", "ha": side}
        ax.annotate(", ".join(rules), (x, y), fontsize=7.5, color=INK, **name)


def weights(mixture: Mixture, ax: "Axes | None" = None) -> "Axes":
    """The weight of each component as a bar, that of the noise, if there is any, in grey; a line for equal weights."""
    ax, mixture = new_axes() if ax is None else ax, mixture_of(mixture)
    k = mixture.n_components
    ax.bar(np.arange(k), mixture.weights, color=colours(k), width=0.85 if k <= 40 else 1.0)
    if mixture.noise is not None:
        ax.bar([k], [mixture.noise.weight], color=QUIET, width=0.85)
        ax.annotate("noise", (k, mixture.noise.weight), ha="center", va="bottom", fontsize=8, color=INK)
    ax.axhline(1 / k, color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.margins(x=0.01)
    numbers_of(ax)
    tidy(ax, "Weights", "component", "share of the rows")
    ax.grid(visible=False, axis="x")
    return ax


def calibration(expected: Array, observed: Array, ax: "Axes | None" = None) -> "Axes":
    """How the distances of rows from their components compare with those of Gaussian rows: on the diagonal, they do.

    Parameters
    ----------
    expected : (B,) shares of a Gaussian's rows within a Mahalanobis distance, rising.
    observed : (K, B) shares of each component's rows within the same distance.
    """
    ax = new_axes() if ax is None else ax
    k, expected = len(observed), np.concatenate([[0.0], expected])
    observed = np.column_stack([np.zeros(k), observed])
    for number, (curve, colour) in enumerate(zip(observed, colours(k), strict=True)):
        ax.plot(expected, curve, color=colour, linewidth=1.3 if k <= LEGEND_COMPONENTS else 0.7, label=str(number))
    ax.plot([0, 1], [0, 1], color=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=3)
    if k <= LEGEND_COMPONENTS:
        listed(ax, "component")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    tidy(ax, "Distances from the means", "share of a Gaussian's rows within", "share of the component's rows within")
    return ax
