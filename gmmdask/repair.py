"""Components that hold too few rows: what is done about them, from statistics alone, so that it resumes."""

from dataclasses import dataclass

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.frame import Prior
from gmmdask.mstep import central
from gmmdask.stats import Stats

RESEEDS = 3  # a component, on average, in one run: what is empty again after that, the data does not have
SLACK = 1e-3  # a component that sits on one row holds all of it but for a little, and may stay
NO_SPREAD = 1e-10  # variance in the frame: rows that differ by less are the same row, and cannot be split
HALF = (2 / np.pi) ** 0.5  # standard deviations from the middle of a Gaussian to the mean of one half


class EmptyComponent(ValueError):
    """A component holds too few rows, and `empty="error"` asks for an error then."""


@dataclass(frozen=True, eq=False)
class Repair:
    """What was done about a component of too small a mass.

    Its rows were given to `other`, the heaviest component. With a `shift` (d,), the other was then cut in two halves
    whose means lie that far from the middle, and one of them is the component's new beginning; without, the component
    was dropped, and the components after it are counted anew.
    """

    component: int
    mass: float
    other: int
    shift: Array | None = None

    def on(self, stats: Stats) -> Stats:
        """The same change of statistics of any rows under the mixture. It is linear, and keeps sums over components."""
        joined = stats.joined(self.component, self.other)
        if self.shift is None:
            return joined.without_component(self.component)
        return joined.split(self.other, self.component, self.shift)


def without_rows(stats: Stats, prior: Prior) -> tuple[int, ...]:
    """Components of less than one row."""
    return lighter(stats, prior.row)


def lighter(stats: Stats, mass: float) -> tuple[int, ...]:
    """Components of certainly less than this mass."""
    return tuple(int(k) for k in np.flatnonzero(stats.mass < mass * (1 - SLACK)))


def poor(stats: Stats, prior: Prior) -> tuple[int, ...]:
    """Components that hold less than one row, or fewer than their covariance needs where only rows carry it."""
    return lighter(stats, needed(stats, prior))


def needed(stats: Stats, prior: Prior) -> float:
    """The least mass of a component."""
    return prior.row * (1 if prior.carries else stats.layout.family.rows_needed(stats.layout.d))


def repaired(stats: Stats, prior: Prior, reseeds: int, lap: int) -> tuple[Stats, tuple[Repair, ...]]:
    """Statistics for the M-step, and what was done to make them, in this order.

    Parameters
    ----------
    reseeds : those that the run has behind it.
    lap : that the statistics come from, for an error.

    Raises
    ------
    EmptyComponent
        If there is a component with too few rows, and `prior.empty` asks for an error.
    """
    found, repairs = poor(stats, prior), tuple[Repair, ...]()
    if found and prior.empty == "error":
        k = found[0]
        raise EmptyComponent(
            f"pass {lap}: component {k} holds {stats.mass[k] / prior.row:.3g} rows, and needs "
            f"{needed(stats, prior) / prior.row:.3g} or more. Ask for fewer components, try another start, or "
            "let it be reseeded or dropped (empty='reseed' or 'drop')."
        )
    drop = prior.empty == "drop"
    for component in reversed(found) if drop else found:
        if drop:
            repair = dropping(stats, component)
        else:
            left = RESEEDS * stats.layout.n_components - reseeds - len(repairs)
            repair = reseeding(stats, component, prior) if left > 0 else None
        if repair is not None:
            stats, repairs = repair.on(stats), (*repairs, repair)
    return stats, repairs


def dropping(stats: Stats, component: int) -> Repair | None:
    """Its rows go to the heaviest of the others; None if there is no other."""
    masses = stats.mass.copy()
    masses[component] = -1.0
    if len(masses) == 1:
        return None
    return Repair(component, float(stats.mass[component]), int(np.argmax(masses)))


def reseeding(stats: Stats, component: int, prior: Prior) -> Repair | None:
    """The heaviest component that has rows for two and differs within is cut across its longest axis; None if none."""
    least = 2 * needed(stats, prior)
    for other in np.argsort(-stats.mass, kind="stable"):
        if stats.mass[other] < least:
            return None
        joined = stats.joined(component, int(other))
        mass, _, scatter = central(joined)
        family, layout = stats.layout.family, stats.layout
        own = family.covariances(scatter, mass, layout.d)
        variances, axes = np.linalg.eigh(family.dense(own, layout.n_components, layout.d)[other])
        if variances[-1] > NO_SPREAD:
            axis = axes[:, -1] * np.sign(axes[np.argmax(np.abs(axes[:, -1])), -1])
            shift = HALF * variances[-1] ** 0.5 * axis
            return Repair(component, float(stats.mass[component]), int(other), shift)
    return None
