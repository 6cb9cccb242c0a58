"""Hypothesis strategies: mixtures, rows, cuts of rows, row weights.

Sizes and shapes are drawn and shrink; the numbers in the arrays come from a generator whose seed is drawn.
"""

from itertools import pairwise

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.mixture import Mixture
from gmmdask.testing.reference import OWN_SHAPE

LAW = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    # classes inherit these tests on purpose, and their fixtures hold nothing that an example could change
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture],
)

generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def random_covariances(rng: np.random.Generator, n: int, d: int) -> Array:
    """Well-conditioned matrices (n, d, d) with eigenvalues of order one."""
    factors = rng.normal(size=(n, d, d)) / np.sqrt(d)
    covariances: Array = factors @ factors.transpose(0, 2, 1) + 0.4 * np.eye(d)
    return covariances


def random_mixture(
    rng: np.random.Generator, covariance_type: str, n_components: int, d: int, separation: float = 2.0
) -> Mixture:
    """A mixture without small weights or narrow components, its means `separation` standard deviations about 0."""
    weights = 0.5 + rng.random(n_components)
    weights /= weights.sum()
    dense = random_covariances(rng, n_components, d)
    own = np.array(OWN_SHAPE[covariance_type](weights, dense), order="C")
    return Mixture(covariance_type, weights, separation * rng.normal(size=(n_components, d)), own)


@st.composite
def mixtures(draw: st.DrawFn, covariance_type: str, max_components: int = 5, max_d: int = 5) -> Mixture:
    """Mixtures of 1 to `max_components` components in 1 to `max_d` dimensions."""
    n_components, d = draw(st.integers(1, max_components)), draw(st.integers(1, max_d))
    return random_mixture(draw(generators), covariance_type, n_components, d)


covariance_types = st.sampled_from(sorted(FAMILIES))


@st.composite
def row_arrays(draw: st.DrawFn, d: int, max_rows: int = 80) -> Array:
    """Rows (n, d) of order one to three, 1 <= n <= `max_rows`."""
    n, scale = draw(st.integers(1, max_rows)), draw(st.floats(0.5, 3))
    rows: Array = scale * draw(generators).normal(size=(n, d))
    return rows


def with_gaps(rng: np.random.Generator, rows: Array, share: float = 0.3) -> Array:
    """A copy of rows (n, d) in which this share of the values is missing, NaN."""
    found = rows.copy()
    found[rng.random(rows.shape) < share] = np.nan
    return found


@st.composite
def cuts(draw: st.DrawFn, n: int) -> list[tuple[int, int]]:
    """[start, stop) of pieces, none of them empty, that together are n rows in order."""
    inner = draw(st.sets(st.integers(1, n - 1), max_size=8)) if n > 1 else set()
    return list(pairwise([0, *sorted(inner), n]))


@st.composite
def row_weights(draw: st.DrawFn, n: int) -> Array:
    """Weights (n,) from 0 to 5, zeros and whole numbers among them, not all zero."""
    rng = draw(generators)
    weights = np.where(rng.random(n) < 0.5, rng.integers(0, 4, n), 5 * rng.random(n))
    weights[0] = 1.0
    return weights
