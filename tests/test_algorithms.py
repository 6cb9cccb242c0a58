"""The fitting algorithms: the contract applied to each, batch EM against the reference, and runs side by side."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from gmmdask.algorithms import (
    ALGORITHMS,
    Algorithm,
    Batch,
    Beginning,
    Gradient,
    Incremental,
    Request,
    Riemannian,
    Squarem,
    State,
    Stochastic,
)
from gmmdask.algorithms._stopping import predicted_gain
from gmmdask.algorithms.batch import BatchState
from gmmdask.covariance import FAMILIES
from gmmdask.estep import available
from gmmdask.execution import Threads
from gmmdask.fit import advance, sharing
from gmmdask.frame import Prior
from gmmdask.kernels import EPS
from gmmdask.mixture import Mixture
from gmmdask.outcome import Event, KernelChanged, PassDone, Reason
from gmmdask.plan import Part, Plan, Slice
from gmmdask.run import Run
from gmmdask.selfcheck import ChangedData, Expected, check
from gmmdask.sources import ArraySource
from gmmdask.stats import Layout, Stats
from gmmdask.task import Data
from gmmdask.testing import reference
from gmmdask.testing.contracts import AlgorithmTests
from gmmdask.testing.contracts.algorithm import bits
from gmmdask.testing.passes import (
    data_of,
    e_step,
    fit_data,
    frame_of_rows,
    identity_frame,
    mixture_of,
    parameters_of,
    run_of,
)
from gmmdask.testing.strategies import random_mixture


class TestBatch(AlgorithmTests):
    algorithm = Batch(tol=1e-4, max_iter=12)
    max_iter = 12
    monotone = True


class TestBatchByPrediction(AlgorithmTests):
    algorithm = Batch(tol=1e-3, max_iter=12, stop="predicted", kernel="centred")
    max_iter = 12
    monotone = True


class TestSquarem(AlgorithmTests):
    algorithm = Squarem(Batch(tol=0, max_iter=14))
    max_iter = 14
    monotone = True


class TestIncremental(AlgorithmTests):
    algorithm = Incremental(tol=0, max_iter=4)
    max_iter = 4
    monotone = True


class TestIncrementalFromASample(AlgorithmTests):
    algorithm = Incremental(tol=1e-3, max_iter=4)
    max_iter = 4
    monotone = True
    sampled = True


class TestStochastic(AlgorithmTests):
    algorithm = Stochastic(tol=1e-3, max_iter=3)
    max_iter = 3


class TestStochasticFromASample(AlgorithmTests):
    algorithm = Stochastic(tol=1e-4, max_iter=3)
    max_iter = 3
    sampled = True


class TestStochasticForgetting(AlgorithmTests):
    algorithm = Stochastic(tol=0, max_iter=2, rate=0.2)
    max_iter = 2
    sampled = True


class TestLbfgs(AlgorithmTests):
    algorithm, max_iter, monotone = Gradient(tol=0, max_iter=14), 14, True


class TestRiemannian(AlgorithmTests):
    algorithm, max_iter, monotone = Riemannian(tol=1e-6, max_iter=14), 14, True
    families = ("full",)


class TestProjected(AlgorithmTests):
    algorithm, max_iter, monotone = Gradient("projected", tol=0, max_iter=12), 12, True


class TestAdam(AlgorithmTests):
    algorithm, max_iter = Gradient("adam", tol=0, max_iter=6, schedule="sqrt"), 6


class TestSgdOfMiniBatchesFromASample(AlgorithmTests):
    algorithm, max_iter, sampled = Gradient("sgd", tol=1e-3, max_iter=2, schedule="inverse", mini_batches=9), 2, True


def test_every_algorithm_keeps_the_contract() -> None:
    tested = [cls for cls in AlgorithmTests.__subclasses__() if cls.__module__ == __name__]
    assert {type(cls.algorithm) for cls in tested} == {*ALGORITHMS.values(), Squarem}


def some_rows(mixture: Mixture, n: int = 500, seed: int = 1) -> np.ndarray:
    return mixture.sample(n, np.random.default_rng(seed))[0]


def start_of(covariance_type: str = "full", n_components: int = 3, d: int = 2, seed: int = 0) -> Mixture:
    return random_mixture(np.random.default_rng(seed), covariance_type, n_components, d, separation=1.0)


# --- batch EM --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize("kernel", ["auto", *available()])
@pytest.mark.parametrize("reg_covar", [0.0, 1e-2])
def test_batch_em_is_the_references(covariance_type: str, kernel: str, reg_covar: float) -> None:
    """In data units, regularisation included, although it runs in a frame of its own."""
    start = start_of(covariance_type)
    scale = np.array([3.0, 3.0]) if covariance_type == "spherical" else np.array([30.0, 0.2])
    rows = some_rows(start) * scale + np.array([100.0, -7.0])
    means = start.means * scale + np.array([100.0, -7.0])
    dense = start.dense_covariances() * np.outer(scale, scale)
    own = np.ascontiguousarray(reference.OWN_SHAPE[covariance_type](start.weights, dense))
    mixture = Mixture(covariance_type, start.weights, means, own)
    bounds: list[float] = []

    def emit(event: Event) -> None:
        if isinstance(event, PassDone):
            bounds.append(event.lower_bound)

    run = run_of("run", Batch(tol=0, max_iter=5, kernel=kernel), mixture, frame_of_rows(mixture, rows), reg_covar)
    (ended,) = fit_data(data_of(rows), run, emit=emit)
    weights, means, own, wanted = reference.em(covariance_type, rows, parameters_of(mixture), 5, reg_covar)
    found = mixture_of(ended)
    np.testing.assert_allclose(found.weights, weights, rtol=1e-9)
    np.testing.assert_allclose(found.means, means, rtol=1e-9)
    np.testing.assert_allclose(found.covariances, own, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(bounds, wanted, rtol=1e-11)


def test_tol_zero_runs_every_lap() -> None:
    start = start_of(n_components=1)
    rows = some_rows(start)
    (ended,) = fit_data(data_of(rows), run_of("run", Batch(0, 9), start, frame_of_rows(start, rows)))
    assert ended.state.laps == 9
    assert ended.state.outcome is not None
    assert ended.state.outcome.reason is Reason.MAX_ITER


def test_one_component_is_found_at_once() -> None:
    start = start_of(n_components=1)
    rows = some_rows(start)
    (ended,) = fit_data(data_of(rows), run_of("run", Batch(1e-9, 9), start, frame_of_rows(start, rows)))
    assert ended.state.laps == 3  # the second pass is the first to see the answer, the third that nothing changes
    found = mixture_of(ended)
    np.testing.assert_allclose(found.means[0], rows.mean(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.covariances[0], np.cov(rows.T, bias=True), rtol=0, atol=1e-12)


def test_an_unknown_stopping_rule() -> None:
    with pytest.raises(ValueError, match="stop='soon': expected one of gain, predicted"):
        Batch(stop="soon")


def tell_bounds(algorithm: Batch, bounds: list[float]) -> BatchState:
    """The state after passes with these lower bounds, or after the one that ended the run."""
    mixture = Mixture("spherical", np.ones(1), np.zeros((1, 1)), np.ones(1))
    stats = Stats.zero(Layout("spherical", 1, 1, "frame"))
    stats.mass[:], stats.second[:] = 2.0, 2.0
    state = algorithm.start(mixture, Beginning())
    for bound in bounds:
        stats.vector[0], stats.vector[2] = 2.0, 2.0 * bound
        state, note = algorithm.tell(state, (stats,), Prior(np.zeros(1)))
        assert note.lower_bound == bound
        if state.outcome is not None:
            break
    return state


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.9])
def test_the_predicted_gain_is_the_rest_of_a_geometric_series(ratio: float) -> None:
    bounds = tuple(-2 - 0.5 * ratio**i for i in range(3))
    assert predicted_gain(bounds) == pytest.approx(-2 - bounds[-1], abs=1e-12)


@pytest.mark.parametrize(
    "bounds", [(), (-1.0,), (-2.0, -1.0), (-1.0, -1.0, -1.0), (-3.0, -2.5, -1.0), (-3.0, -2.0, -2.5)]
)
def test_nothing_is_predicted_where_gains_do_not_shrink(bounds: tuple[float, ...]) -> None:
    assert predicted_gain(bounds) is None


def test_stop_by_gain_looks_at_the_last_gain() -> None:
    bounds = [-2 - 0.9**i for i in range(200)]
    state = tell_bounds(Batch(tol=1e-3, max_iter=200), bounds)
    assert state.outcome is not None
    assert state.outcome.converged
    gains = np.diff(bounds)
    assert state.laps == 2 + int(np.argmax(gains < 1e-3))
    assert state.outcome.predicted_gain == pytest.approx(-2 - bounds[state.laps - 1], rel=1e-6)


def test_stop_by_prediction_bounds_what_is_left() -> None:
    bounds = [-2 - 0.9**i for i in range(200)]
    state = tell_bounds(Batch(tol=1e-3, max_iter=200, stop="predicted"), bounds)
    assert state.outcome is not None
    assert state.outcome.converged
    left = -2 - np.array(bounds)
    assert left[state.laps - 1] < 1e-3 <= left[state.laps - 2]


@pytest.mark.parametrize("stop", ["gain", "predicted"])
def test_a_change_below_rounding_counts_as_stopped(stop: str) -> None:
    state = tell_bounds(Batch(tol=1e-30, max_iter=9, stop=stop), [-2.0, -1.0, -1.0 + 1e-13, -1.0])
    assert state.outcome is not None
    assert state.outcome.converged
    assert state.laps == 3


def test_a_run_that_is_cut_short_says_what_is_left() -> None:
    state = tell_bounds(Batch(tol=1e-9, max_iter=5), [-2 - 0.5**i for i in range(9)])
    assert state.outcome is not None
    assert not state.outcome.converged
    assert state.laps == 5
    assert "max_iter=5" in state.outcome.sentence
    assert "0.062 nats per row" in state.outcome.sentence
    assert state.bounds == tuple(-2 - 0.5**i for i in (2, 3, 4))


# --- runs side by side -----------------------------------------------------------------------------------------


def three_runs(rows: np.ndarray) -> tuple[Run, ...]:
    shapes = (("full", 3, Batch(0, 4)), ("diag", 2, Batch(0, 7)), ("full", 5, Batch(1e-2, 6, kernel="centred")))
    starts = [start_of(covariance_type, k, seed=k) for covariance_type, k, _ in shapes]
    return tuple(
        run_of(f"run-{i}", algorithm, start, frame_of_rows(start, rows))
        for i, (start, (_, _, algorithm)) in enumerate(zip(starts, shapes, strict=True))
    )


@pytest.mark.parametrize("n_threads", [1, 2])
def test_runs_in_lock_step_have_the_bits_of_runs_alone(n_threads: int) -> None:
    rows = some_rows(start_of())
    plan = Plan(tuple(Part(i, 50 * i, 50 * i + 50) for i in range(10)), 16)
    together = fit_data(Data(ArraySource(rows), plan, Threads(n_threads)), *three_runs(rows))
    alone = [fit_data(Data(ArraySource(rows), plan, Threads(1)), run)[0] for run in three_runs(rows)]
    assert [run.state.laps for run in together] == [run.state.laps for run in alone]
    for one, other in zip(together, alone, strict=True):
        assert bits(one.state.mixture) == bits(other.state.mixture)
        assert one.state.outcome == other.state.outcome


def test_runs_that_ask_for_the_same_slices_share_a_read() -> None:
    rows = some_rows(start_of())
    passes = []

    class Counting(Threads):
        def get(self, graph: object, key: object) -> object:
            passes.append(key)
            return super().get(graph, key)  # type: ignore[arg-type]

    fit_data(data_of(rows, Counting(1)), *three_runs(rows))
    assert len(passes) == 7  # those of the longest run


@dataclasses.dataclass(frozen=True)
class OfPart(Batch):
    """Batch EM on one part of the data."""

    part: Part | None = None

    def ask(self, state: State, plan: Plan) -> Request:
        assert self.part is not None
        return dataclasses.replace(super().ask(state, plan), slices=(Slice(self.part),))


def test_runs_that_ask_for_other_slices_go_one_after_another() -> None:
    rows, start = some_rows(start_of()), start_of()
    parts = (Part(0, 0, 200), Part(1, 200, 500))
    frame = frame_of_rows(start, rows)
    algorithms: list[Algorithm] = [Batch(0, 3), OfPart(0, 3, part=parts[1]), OfPart(0, 3, part=parts[1])]
    runs = tuple(run_of(str(i), algorithm, start, frame) for i, algorithm in enumerate(algorithms))
    data = Data(ArraySource(rows), Plan(parts, 64), Threads(1))
    groups = sharing((run, run.algorithm.ask(run.state, data.plan)) for run in runs)
    assert [[run.name for run, _ in group] for group in groups] == [["0"], ["1", "2"]]
    mean, covariance = rows.mean(axis=0), np.cov(rows.T, bias=True)
    ended = advance(runs, data, lambda event: None, Expected(500.0, mean, covariance))
    (alone,) = fit_data(data_of(rows[200:]), run_of("alone", Batch(0, 3), start, frame))
    for run in ended[1:]:
        np.testing.assert_allclose(run.state.mixture.means, alone.state.mixture.means, rtol=1e-9, atol=1e-12)


def test_the_driver_saves_after_every_step() -> None:
    rows = some_rows(start_of())
    laps = []
    runs = three_runs(rows)
    advance(runs, data_of(rows), lambda event: None, save=lambda saved: laps.append([run.state.laps for run in saved]))
    assert laps[0] == [1, 1, 1]
    assert laps[-1][:2] == [4, 7]
    assert len(laps) == 7
    assert [run.state.laps for run in runs] == [0, 0, 0]


def test_events_tell_bounds_gains_and_bytes() -> None:
    rows = some_rows(start_of())
    events: list[Event] = []
    fit_data(data_of(rows.astype(np.float32)), three_runs(rows)[0], emit=events.append)
    passes = [event for event in events if isinstance(event, PassDone)]
    assert [event.lap for event in passes] == [1, 2, 3, 4]
    assert {(event.rows, event.bytes) for event in passes} == {(500, 500 * 2 * 4)}
    assert passes[0].gain is None
    for last, event in pairwise(passes):
        assert event.gain == pytest.approx(event.lower_bound - last.lower_bound, abs=1e-12)


def test_a_narrow_component_changes_the_kernel_with_an_event() -> None:
    width = 1e-5
    means = np.array([[-1.0, 0.0], [1.0, 0.0]])
    start = Mixture("full", np.array([0.5, 0.5]), means, np.array([np.eye(2), width**2 * np.eye(2)]))
    rows = some_rows(start)
    events: list[Event] = []
    (ended,) = fit_data(
        data_of(rows), run_of("run", Batch(0, 3), start, frame_of_rows(start, rows)), emit=events.append
    )
    changes = [event for event in events if isinstance(event, KernelChanged)]
    assert [event.kernel for event in changes] == ["centred"]
    assert changes[0].error > 1e5 * EPS
    assert np.sqrt(np.diag(mixture_of(ended).covariances[1])) == pytest.approx([width, width], rel=0.2)


# --- promise P10 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize("kernel", available())
def test_a_full_pass_adds_up_to_the_pilot(covariance_type: str, kernel: str) -> None:
    start = start_of(covariance_type)
    rows = some_rows(start) + 1000
    mean, covariance = rows.mean(axis=0), np.cov(rows.T, bias=True)
    run = run_of("run", Batch(), start, frame_of_rows(start, rows))
    stats = e_step(rows, run.state.mixture, kernel, run.frame, [(0, 200), (200, 500)])
    check(stats, run.frame, Expected(500.0, mean, covariance), "rows")
    others = [
        Expected(501.0, mean, covariance),
        Expected(500.0, mean + np.array([0.0, 1e-3]), covariance),
        Expected(500.0, mean, covariance * 1.001),
    ]
    for other in others:
        with pytest.raises(ChangedData, match="rows: a pass over all rows does not add up"):
            check(stats, run.frame, other, "rows")


def test_data_that_change_under_a_fit_end_it() -> None:
    start = start_of()
    rows = some_rows(start)
    expected = Expected(500.0, rows.mean(axis=0), np.cov(rows.T, bias=True))
    run = run_of("run", Batch(0, 5), start, frame_of_rows(start, rows))

    def emit(event: Event) -> None:
        if isinstance(event, PassDone) and event.lap == 2:
            rows[17] += 1.0

    with pytest.raises(ChangedData, match="the data changed under the fit"):
        advance((run,), data_of(rows), emit, expected)
    assert run.state.laps == 0


def test_nan_under_a_fit_ends_it() -> None:
    start = start_of()
    rows = some_rows(start)
    expected = Expected(500.0, rows.mean(axis=0), np.cov(rows.T, bias=True))
    run = run_of("run", Batch(0, 5), start, frame_of_rows(start, rows))
    rows[3, 1] = np.nan
    with pytest.raises(ChangedData, match="moments off by"):
        advance((run,), data_of(rows), lambda event: None, expected)


def test_a_single_e_step_needs_no_frame() -> None:
    """The identity is a frame like any other."""
    mixture = start_of()
    rows = some_rows(mixture)
    stats = e_step(rows, mixture, "products", identity_frame(2), [(0, 500)])
    assert stats.log_likelihood == pytest.approx(
        reference.log_density(reference.log_joint(rows, parameters_of(mixture))).sum()
    )
