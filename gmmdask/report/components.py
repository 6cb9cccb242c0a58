"""What there is to say of each component of a mixture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gmmdask.mixture import Mixture
from gmmdask.plot.matrices import overlaps, standardised_means
from gmmdask.report.examine import Look, expected

STANDING_OUT, STANDING_OUT_BY = 3, 0.5  # features that are named, and standard deviations from which on they are
INNER, OUTER = 0.5, 0.99  # shares of a component's rows whose distances are compared


@dataclass(frozen=True)
class Component:
    """One component.

    Parameters
    ----------
    rows : weight times the rows of the fit; None where these are not known.
    parameters : free ones of its mean and covariance; its share of what components have together.
    narrowest : its smallest eigenvalue, in squared data units.
    standardised, breadth : its smallest eigenvalue, and the root of the mean one, with every feature divided by its
        standard deviation over the whole mixture.
    nearest, overlap : the other component that it overlaps with most, and how much, from 0 to 1.
    standing_out : the features in which its mean is farthest from that of all rows, and how many standard deviations.
    certainty : the mean posterior probability of rows that are labelled with it; None without data or such rows.
    inner, outer : Mahalanobis distances within which 50 % and 99 % of its rows lie; None without data.
    gap : the largest difference between a Gaussian's share of rows within a distance and its own.
    effective : the rows that the distances are of.
    """

    number: int
    weight: float
    rows: float | None
    parameters: float
    narrowest: float
    standardised: float
    breadth: float
    nearest: int | None
    overlap: float
    standing_out: tuple[tuple[str, float], ...]
    certainty: float | None = None
    inner: float | None = None
    outer: float | None = None
    gap: float | None = None
    effective: float | None = None

    @property
    def narrow(self) -> float:
        """Its smallest standard deviation in any direction, of standardised features."""
        return max(self.standardised, 0.0) ** 0.5


def describe(mixture: Mixture, names: Sequence[str], rows: float | None, look: Look | None) -> list[Component]:
    """All components, in their order.

    Parameters
    ----------
    names : (d,) of the features.
    rows : of the fit, if they are known.
    """
    k, d = mixture.means.shape
    far, overlap = standardised_means(mixture), overlaps(mixture)
    np.fill_diagonal(overlap, -1.0)
    parameters = d + mixture.family.n_parameters(k, d) / k
    deviation = np.sqrt(np.diag(mixture.moments()[1]))
    scale = np.where(deviation > 0, deviation, 1.0)
    found = []
    for number in range(k):
        covariance = mixture.reordered([number]).dense_covariances()[0]
        scaled = covariance / np.outer(scale, scale)
        nearest = int(np.argmax(overlap[number]))
        found.append(
            Component(
                number,
                float(mixture.weights[number]),
                None if rows is None else float(mixture.weights[number] * rows),
                parameters,
                float(np.linalg.eigvalsh(covariance)[0]),
                float(np.linalg.eigvalsh(scaled)[0]),
                float(np.sqrt(np.diag(scaled).mean())),
                nearest if k > 1 else None,
                max(float(overlap[number, nearest]), 0.0),
                standing_out(far[number], names),
                **({} if look is None else distances(look, number, d)),
            )
        )
    return found


def standing_out(far: np.ndarray, names: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """The few features (d,) that are farthest from the middle, the farthest first."""
    order = np.argsort(-np.abs(far), kind="stable")[:STANDING_OUT]
    return tuple((names[i], float(far[i])) for i in order if abs(far[i]) >= STANDING_OUT_BY)


def distances(look: Look, number: int, d: int) -> dict[str, float | None]:
    """What rows say of a component."""
    seen = look.seen
    mass = float(seen.mass[number])
    within = seen.within[number]
    if not mass > 0:
        return {"effective": 0.0}
    certainty = float(seen.averages[number, number])
    effective = seen.effective(mass)
    return {
        "certainty": certainty if np.isfinite(certainty) else None,
        "inner": float(seen.distance(INNER, d)[number]),
        "outer": float(seen.distance(OUTER, d)[number]),
        "gap": float(np.max(np.abs(within - expected(d)))),
        "effective": effective,
    }
