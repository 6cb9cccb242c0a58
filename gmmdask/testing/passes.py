"""Small fits and single E-steps without an estimator around them, and comparisons with the reference."""

from collections.abc import Sequence

import numpy as np

from gmmdask.algorithms import Algorithm, Beginning
from gmmdask.covariance import Family
from gmmdask.covariance._base import Array
from gmmdask.estep import EStep, ESteps
from gmmdask.execution import Executor, Threads, one_thread
from gmmdask.fit import advance
from gmmdask.frame import Frame, Prior
from gmmdask.mixture import Mixture
from gmmdask.outcome import Callback
from gmmdask.plan import make_plan
from gmmdask.run import Run
from gmmdask.sources import ArraySource, Source
from gmmdask.stats import Stats
from gmmdask.task import Block, Data
from gmmdask.testing.reference import Parameters, Sums

Pieces = Sequence[tuple[int, int]]


def identity_frame(d: int) -> Frame:
    return Frame(np.zeros(d), np.ones(d), np.ones(d))


def parameters_of(mixture: Mixture) -> Parameters:
    noise = None if mixture.noise is None else (mixture.noise.weight, mixture.noise.log_density)
    return Parameters(mixture.weights, mixture.means, mixture.dense_covariances(), noise)


def e_step(
    rows: Array, mixture: Mixture, kernel: str, frame: Frame, pieces: Pieces, weights: Array | None = None
) -> Stats:
    """Statistics of rows (n, d) in data units under a mixture in frame coordinates, one kernel call a piece."""
    blocks = [Block(rows[a:b], None if weights is None else weights[a:b], a) for a, b in pieces]
    work = ESteps(((frame, EStep(mixture, kernel)),), max(b - a for a, b in pieces))
    return work(blocks).items[0]


def packed(family: Family, dense: Array) -> Array:
    """Dense moments (K, d, d) in the family's packed shape (R, p)."""
    kept = np.array([family.pack(np.asarray(matrix, np.float64)) for matrix in dense])
    return kept.sum(axis=0, keepdims=True) if family.shared else kept


def assert_stats_agree(stats: Stats, sums: Sums, tolerance: float) -> None:
    """Statistics against the reference's, about the same origin, to `tolerance` of the sums of absolute terms.

    Those of a moment are bounded by Cauchy and Schwarz: Σ w r |x_i x_j| <= widths_i widths_j.
    """
    family, total = stats.layout.family, float(sums.weight)
    widths = np.sqrt(np.einsum("kii->ki", sums.second).astype(np.float64))
    mass = sums.mass.astype(np.float64)[:, None]
    first = np.sqrt(mass) * widths + mass
    second = packed(family, widths[:, :, None] * widths[:, None, :] + mass[:, :, None])
    nats = total + abs(float(sums.log_likelihood))
    assert abs(stats.weight - total) <= tolerance * total
    assert np.all(np.abs(stats.mass - sums.mass) <= tolerance * total)
    assert np.all(np.abs(stats.first - sums.first) <= tolerance * first)
    assert np.all(np.abs(stats.second - packed(family, sums.second)) <= tolerance * second)
    assert abs(stats.log_likelihood - float(sums.log_likelihood)) <= tolerance * nats
    assert abs(stats.entropy - float(sums.entropy)) <= 10 * tolerance * nats
    assert stats.layout.noise == (sums.outside is not None)
    if sums.outside is not None:
        mass, first, second = (np.asarray(value, np.float64) for value in sums.outside)
        d, width = stats.layout.d, np.sqrt(np.trace(second))
        assert abs(stats.outside - mass) <= tolerance * total
        assert np.all(np.abs(stats.beyond[:d] - first) <= tolerance * (np.sqrt(total) * width + total))
        assert np.all(np.abs(stats.beyond[d:] - family.pack(second)) <= tolerance * (width**2 + total))


def frame_of_rows(mixture: Mixture, rows: Array) -> Frame:
    """The frame that the mean and covariance of rows (n, d) give the mixture's family."""
    mean = rows.mean(axis=0)
    return Frame.of(mixture.family, mean, (rows - mean).T @ (rows - mean) / len(rows))


def run_of(
    name: str,
    algorithm: Algorithm,
    start: Mixture,
    frame: Frame,
    reg_covar: float = 0.0,
    beginning: Beginning | None = None,
) -> Run:
    """A run from a mixture in data units."""
    prior = Prior.of(start.covariance_type, start.n_components, frame, reg_covar)
    return Run(name, algorithm, algorithm.start(frame.mixture_in(start), beginning or Beginning()), frame, prior)


def data_of(source: Source | Array, executor: Executor | None = None, block_rows: int = 64) -> Data:
    """A source with a plan of small blocks, on one thread unless an executor is given."""
    if isinstance(source, np.ndarray):
        source = ArraySource(source)
    return Data(source, make_plan(source.edges, source.d, block_rows), executor or Threads(1))


def fit_data(
    data: Data, *runs: Run, emit: Callback = lambda event: None, held_out: Array | None = None
) -> tuple[Run, ...]:
    """Runs brought to their ends."""
    beside = None if held_out is None else data_of(held_out)
    with one_thread(), data.executor:
        return advance(runs, data, emit, held_out=beside)


def mixture_of(run: Run) -> Mixture:
    """Where a run stands, in data units."""
    return run.frame.mixture_out(run.state.mixture)
