"""Rows that a start leaves to the noise: those in places emptier than if all rows were spread evenly over their box."""

from dataclasses import replace
from math import lgamma

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.mixture import Mixture
from gmmdask.noise import Noise

REFERENCES = 1000  # rows that distances are taken to
NEIGHBOURS = 8
STEP = 256  # rows at a time
FIRST_SHARE = 0.1  # of the noise, where nothing is known of it
SHARES = (0.01, 0.5)  # of the noise at a start: EM takes it from there
LEFT = 1e-6  # what given weights leave to the noise, if it is more than rounding


def in_empty_places(rows: np.ndarray, noise: Noise) -> np.ndarray:
    """Whether there is less than 1/V of density about each row (m, d), V the volume of the noise's box; (m,) of bool.

    Density is told by the distance to the nearest rows, as Byers and Raftery (1998) find features among clutter: k of R
    rows in a ball of radius r are k/(R c r^d), c the volume of the unit ball; in the unit cube, 1/V is one. Noise that
    is a part of all rows has that part of 1/V, however large; and a component, if it is one, more.
    """
    sides = noise.high - noise.low
    spread = np.flatnonzero(sides > 0)
    references, d = rows[:: max(1, len(rows) // REFERENCES)], len(spread)
    if len(references) <= NEIGHBOURS or not d:
        return np.zeros(len(rows), np.bool_)

    def in_cube(some: np.ndarray) -> Array:
        cube: Array = (some[:, spread] - noise.low[spread]) / sides[spread]
        return cube

    to = in_cube(references)
    log_ball = 0.5 * d * np.log(np.pi) - lgamma(0.5 * d + 1)
    far = np.exp(2 / d * (np.log(NEIGHBOURS / len(references)) - log_ball))  # r² where the density is one
    found = np.empty(len(rows), np.bool_)
    for at in range(0, len(rows), STEP):
        some = in_cube(rows[at : at + STEP])
        squares = np.einsum("md,md->m", some, some)[:, None] + np.einsum("rd,rd->r", to, to) - 2 * some @ to.T
        found[at : at + STEP] = np.partition(squares, NEIGHBOURS, axis=1)[:, NEIGHBOURS] > far
    return found


def to_nearest(points: Array, components: np.ndarray) -> np.ndarray:
    """Components (m,) of points (m, d): those that have none (-1) get that of the nearest point that has one.

    Components of one row each have no width, and would lose all others to the noise.
    """
    chosen = np.flatnonzero(components >= 0)
    centres, found = points[chosen], np.empty_like(components)
    for at in range(0, len(points), STEP):
        squares = np.einsum("kd,kd->k", centres, centres) - 2 * points[at : at + STEP] @ centres.T
        found[at : at + STEP] = components[chosen][squares.argmin(axis=1)]
    return found


def with_noise(mixture: Mixture, noise: Noise | None, share: float = FIRST_SHARE) -> Mixture:
    """A mixture with noise of about this share of rows, or as much as its weights leave.

    Noise and mixture are in the same coordinates. Without noise the mixture stays as it is.
    """
    if noise is None:
        return mixture
    total = float(mixture.weights.sum())
    weight = 1 - total if 1 - total > LEFT else float(np.clip(share, *SHARES))
    return replace(mixture, weights=mixture.weights * ((1 - weight) / total), noise=noise.weighing(weight))
