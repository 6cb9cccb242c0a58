"""Algorithms that learn mini-batch by mini-batch: which rows they see when, and what they make of them."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from gmmdask import GaussianMixture
from gmmdask.algorithms import Batch, Beginning, Incremental, Online, Squarem, Stochastic, enough_rows
from gmmdask.algorithms._base import Answer
from gmmdask.algorithms.squarem import SquaremState
from gmmdask.algorithms.stochastic import paired
from gmmdask.covariance import FAMILIES
from gmmdask.estep import EStep, ESteps, LogDensities
from gmmdask.execution import Threads
from gmmdask.frame import Prior
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.outcome import Event, PassDone, Reason, RowsSorted, StepDone
from gmmdask.pilot import first_look
from gmmdask.plan import interleaved, next_prime
from gmmdask.planning import fit_plan, plan_fit
from gmmdask.settings import Settings
from gmmdask.sources import ArraySource, DataError
from gmmdask.start import Start
from gmmdask.stats import Stats
from gmmdask.synthetic import random_mixture as synthetic_mixture
from gmmdask.task import Data, every_row
from gmmdask.testing import reference
from gmmdask.testing.passes import data_of, e_step, fit_data, frame_of_rows, identity_frame, parameters_of, run_of
from gmmdask.testing.strategies import LAW, cuts, random_mixture

# --- which rows, when ------------------------------------------------------------------------------------------


@LAW
@given(
    chunks=st.lists(st.integers(1, 300), min_size=1, max_size=40),
    step_rows=st.integers(1, 400),
    window_bytes=st.integers(1, 40_000),
    lap=st.integers(0, 3),
)
def test_a_lap_visits_every_row_once_and_holds_a_window(
    chunks: list[int], step_rows: int, window_bytes: int, lap: int
) -> None:
    edges = np.concatenate([[0], np.cumsum(chunks)])
    plan = interleaved(edges, 1, 64, step_rows, window_bytes)
    data = Data(ArraySource(np.arange(float(edges[-1]))[:, None]), plan, Threads(1))
    seen, held = Counter[float](), []
    for step in range(plan.steps):
        slices = plan.mini_batch(step, seed=5, lap=lap)
        assert 1 <= len(slices) <= plan.window
        held.append({piece.part.index for piece in slices})
        seen.update(data.sums(lambda blocks: [v for block in blocks for v in block.rows[:, 0]], slices))
    assert seen == Counter({float(row): 1 for row in range(edges[-1])})
    changes = sum(a != b for a, b in pairwise(held))
    assert changes == plan.steps // plan.slices - 1  # every part is read once


def test_a_window_holds_a_part_of_every_stratum_and_orders_differ() -> None:
    plan = interleaved(np.arange(0, 64_001, 100), 1, 64, 500, 64_000)
    assert (len(plan.parts), plan.window) == (128, 16)
    for step in (0, plan.slices, plan.steps - 1):
        strata = [piece.part.index // 8 for piece in plan.mini_batch(step, seed=1)]
        assert strata == list(range(16))
    orders = {
        (seed, lap): tuple(plan.mini_batch(step, seed, lap) for step in range(plan.steps))
        for seed in (0, 1)
        for lap in (0, 1)
    }
    assert len(set(orders.values())) == 4
    assert orders[0, 0] == tuple(plan.mini_batch(step, 0, 0) for step in range(plan.steps))


@pytest.mark.parametrize(("n", "prime"), [(0, 1), (1, 1), (2, 2), (4, 5), (24, 29), (100, 101), (121, 127)])
def test_next_prime(n: int, prime: int) -> None:
    assert next_prime(n) == prime


@LAW
@given(n=st.integers(1, 200), of=st.integers(1, 12), bounds=st.data())
def test_every_row_of_a_cut_stream(n: int, of: int, bounds: st.DataObject) -> None:
    rows = np.arange(n)
    pieces = [rows[a:b] for a, b in bounds.draw(cuts(n))]
    for k in range(of):
        found = [int(row) for piece in every_row(iter(pieces), k, of) for row in piece]
        assert found == list(range(k, n, of))


@pytest.mark.parametrize(("n", "algorithm"), [(10**6, Stochastic()), (10**8, Stochastic()), (10**6, Incremental())])
def test_a_lap_has_the_steps_that_are_asked_for(n: int, algorithm: Stochastic | Incremental) -> None:
    class Shaped(ArraySource):
        def __init__(self, n: int) -> None:
            self.name, self.n, self.d, self.dtype = "rows", n, 8, np.dtype("f8")
            self.edges = np.append(np.arange(0, n, 100_000), n)

    plan = fit_plan(Shaped(n), Settings(Start("full", 16), algorithm))
    assert plan.steps >= algorithm.mini_batches
    assert plan.window * max(p.stop - p.start for p in plan.parts) * 64 <= 300 << 20


def test_rows_in_flight_are_in_the_memory_that_is_computed(tmp_path: Path) -> None:
    source = zarr.create_array(tmp_path / "rows", shape=(4_000_000, 4), chunks=(50_000, 4), dtype="f8", fill_value=1)
    from gmmdask import open_source

    opened = open_source(source, accept_missing=True)
    for limit in (None, 400_000_000):
        memory = {
            name: plan_fit(opened, Settings(Start("full", 3), algorithm, memory_limit=limit), Threads(1))[1]
            for name, algorithm in (("em", Batch()), ("stochastic", Stochastic()))
        }
        assert memory["stochastic"].driver - memory["em"].driver > 50_000_000
        assert limit is None or memory["stochastic"].peak <= limit
    with pytest.raises(DataError, match=r"the driver needs .* bytes.*memory_limit=130,000,000"):
        plan_fit(opened, Settings(Start("full", 3), Stochastic(), memory_limit=130_000_000), Threads(1))


# --- sorted rows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_blocks", [2, 9, 60])
def test_shuffled_rows_have_an_order_ratio_of_one(n_blocks: int) -> None:
    for seed in range(20):
        rows = np.random.default_rng(seed).normal(size=(64 * n_blocks, 3)) * [1, 100, 1e-3] + 1e6
        look = first_look(data_of(rows), 0, 100, 20)
        assert not look.is_sorted
        assert 0 <= look.order_ratio < 8


def test_sorted_rows_are_told(tmp_path: Path) -> None:
    rows = np.sort(np.random.default_rng(0).normal(size=(64 * 40, 2)), axis=0)
    look = first_look(data_of(rows), 0, 100, 20)
    means = rows.reshape(40, 64, 2).mean(axis=1)
    within = rows.reshape(40, 64, 2).var(axis=1).mean(axis=0)
    assert look.is_sorted
    assert look.order_ratio == pytest.approx((64 * means.var(axis=0, ddof=1) / within * 63 / 64).mean(), rel=1e-9)
    told: list[Event] = []
    GaussianMixture(2, random_state=0, sample_rows=500, callbacks=(told.append,)).fit(np.repeat(rows, 60, axis=0))
    assert [event.ratio > 3 for event in told if isinstance(event, RowsSorted)] == [True]


# --- online EM -------------------------------------------------------------------------------------------------


def steps_of(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def mean_sums(rows: np.ndarray, parameters: reference.Parameters) -> list[np.ndarray]:
    """Mass, first and second moments of the reference, per row and about zero."""
    sums = reference.statistics(rows, parameters, np.zeros_like(parameters.means))
    return [np.asarray(part) / len(rows) for part in (sums.mass, sums.first, sums.second)]


def mixture_from(mean: list[np.ndarray]) -> reference.Parameters:
    mass, first, second = mean
    shift = first / mass[:, None]
    return reference.Parameters(
        mass / mass.sum(), shift, second / mass[:, None, None] - shift[:, :, None] * shift[:, None]
    )


@pytest.mark.parametrize("rate", ["power", "equal", 0.25])
@pytest.mark.parametrize("kernel", ["products", "centred"])
def test_online_em_is_the_recursion_of_cappe_and_moulines(rate: str | float, kernel: str) -> None:
    """s ← (1 - γ) s + γ s(B) in the reference's arithmetic; averages over the steps since powers of two."""
    start = random_mixture(np.random.default_rng(0), "full", 2, 2)
    rows = random_mixture(np.random.default_rng(1), "full", 2, 2).sample(1300, np.random.default_rng(2))[0]
    frame, prior, n = identity_frame(2), Prior(np.zeros((2, 2, 2))), 100
    online = Online(start, rate, 0.6)
    parameters, mean, kept = parameters_of(start), None, []
    for t, batch in enumerate(steps_of(rows, n)):
        online = online.after(e_step(batch, online.mixture, kernel, frame, [(0, n)]), prior)
        new = mean_sums(batch, parameters)
        gamma = 1.0 if mean is None else {"power": (t + 1) ** -0.6, "equal": 1 / (t + 1)}.get(str(rate), rate)
        mean = new if mean is None else [(1 - gamma) * s + gamma * b for s, b in zip(mean, new, strict=True)]
        kept.append(mean)
        parameters = mixture_from(mean)
        np.testing.assert_allclose(online.mixture.means, parameters.means, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(online.mixture.covariances, parameters.covariances, rtol=1e-7, atol=1e-9)
    assert (online.steps, online.rows) == (13, 1300)
    averaged = [np.mean(parts, axis=0) for parts in zip(*(kept[3:] if rate == "power" else kept[-1:]), strict=True)]
    np.testing.assert_allclose(online.result(prior).means, mixture_from(averaged).means, rtol=1e-8, atol=1e-10)


def test_no_m_step_before_there_are_enough_rows() -> None:
    start = random_mixture(np.random.default_rng(0), "full", 3, 2)
    rows = start.sample(200, np.random.default_rng(1))[0]
    enough = enough_rows(3, start.n_parameters)
    assert enough == 2 * start.n_parameters == 34
    online, moved = Online(start, "power", 0.6), []
    for batch in steps_of(rows, 10):
        before = online.mixture
        online = online.after(
            e_step(batch, before, "products", identity_frame(2), [(0, 10)]), Prior(np.zeros((3, 2, 2)))
        )
        moved.append(online.mixture is not before)
    assert moved[:4] == [False, False, False, True]
    assert all(moved[3:])


def test_the_sample_stands_for_its_rows() -> None:
    start = random_mixture(np.random.default_rng(0), "diag", 2, 2)
    rows = start.sample(300, np.random.default_rng(1))[0]
    frame = identity_frame(2)
    sample, batch = (e_step(part, start, "products", frame, [(0, len(part))]) for part in (rows[:100], rows[100:]))
    beginning = Beginning(sample=sample, mixed=False)
    online = Stochastic().begin(start, beginning).after(batch, Prior(np.zeros((2, 2))))
    together = m_step(sample + batch, Prior(np.zeros((2, 2))))
    np.testing.assert_allclose(online.mixture.means, together.means, rtol=1e-13)
    assert (online.rate, Stochastic().begin(start, replace(beginning, mixed=True)).rate) == ("equal", "power")


@pytest.mark.parametrize("settings", [{"rate": "slow"}, {"rate": 0.0}, {"rate": 1.0}, {"power": 0.5}, {"power": 1.1}])
def test_rates_that_are_none(settings: dict[str, float | str]) -> None:
    with pytest.raises(ValueError, match=r"(rate|power)=.*: expected"):
        Stochastic(**settings)  # type: ignore[arg-type]


def test_a_paired_gain_of_weighted_rows() -> None:
    rng = np.random.default_rng(0)
    before, after, weights = rng.normal(size=40), rng.normal(size=40), rng.gamma(1.0, size=40)
    np.testing.assert_allclose(paired(before, after, np.full(40, 3.0)), paired(before, after), rtol=1e-12)
    mean, gain, error = paired(before, after, weights)
    assert mean == pytest.approx(np.average(after, weights=weights))
    assert gain == pytest.approx(np.average(after - before, weights=weights))
    counts = np.where(np.arange(40) < 4, 50.0, 0.01)
    assert paired(before, after, counts)[2] > 2 * error  # a few rows decide


def test_a_paired_gain_and_its_error() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(size=500)
    after = before + 0.01 + 0.1 * rng.normal(size=500)
    mean, gain, error = paired(before, after)
    assert mean == pytest.approx(after.mean())
    assert gain == pytest.approx(0.01, abs=3 * error)
    assert error == pytest.approx(2 * 0.1 / 500**0.5, rel=0.1)


def test_held_out_rows_end_a_stochastic_run() -> None:
    truth = synthetic_mixture(3, 2, "full", 0, 4.0)
    rows, held_out = truth.sample(20_000, np.random.default_rng(0))[0], truth.sample(500, np.random.default_rng(1))[0]
    plan = interleaved(np.arange(0, 20_001, 500), 2, 512, 200, 320_000)
    events: list[Event] = []
    run = run_of(
        "run", Stochastic(tol=1e-4), truth, frame_of_rows(truth, rows), beginning=Beginning(0, plan.steps, None, True)
    )
    data = Data(ArraySource(rows), plan, Threads(1))
    (ended,) = fit_data(data, run, emit=events.append, held_out=held_out)
    assert ended.state.outcome is not None
    assert ended.state.outcome.reason is Reason.CONVERGED
    assert "two standard errors" in ended.state.outcome.sentence
    laps = [event for event in events if isinstance(event, PassDone)]
    steps = [event for event in events if isinstance(event, StepDone)]
    assert len(steps) == len(laps) * plan.steps  # the last step of a lap waits for the held-out rows
    found = ended.frame.mixture_out(ended.state.mixture)
    score = reference.log_density(reference.log_joint(held_out, parameters_of(found))).mean()
    assert laps[-1].lower_bound == pytest.approx(score, rel=1e-12)


def test_log_densities_of_held_out_rows_are_the_references() -> None:
    rows = np.random.default_rng(0).normal(size=(300, 2))
    mixtures = [random_mixture(np.random.default_rng(seed), kind, 3, 2) for seed, kind in enumerate(FAMILIES)]
    steps = tuple((identity_frame(2), EStep(m, "centred" if i % 2 else "products")) for i, m in enumerate(mixtures))
    found = data_of(rows).sums(LogDensities(steps, 64)).values
    wanted = [reference.log_density(reference.log_joint(rows, parameters_of(m))) for m in mixtures]
    np.testing.assert_allclose(found, wanted, rtol=1e-11)


# --- incremental EM --------------------------------------------------------------------------------------------


def test_incremental_em_is_neal_and_hintons() -> None:
    """Kept and replaced in the reference's arithmetic, mini-batch by mini-batch."""
    start = random_mixture(np.random.default_rng(0), "full", 2, 2)
    rows = random_mixture(np.random.default_rng(1), "full", 2, 2).sample(400, np.random.default_rng(2))[0]
    batches, prior = steps_of(rows, 100), Prior(np.zeros((2, 2, 2)))
    algorithm = Incremental(tol=0, max_iter=3)
    state = algorithm.start(start, Beginning(0, 4))
    memory: dict[int, list[np.ndarray]] = {}
    parameters = parameters_of(start)
    for lap in range(3):
        for index, batch in enumerate(batches):
            stats = e_step(batch, state.mixture, "products", identity_frame(2), [(0, 100)])
            state, note = algorithm.tell(state, (stats,), prior)
            memory[index] = mean_sums(batch, parameters)
            if lap or index == 3:
                parameters = mixture_from([np.sum(parts, axis=0) for parts in zip(*memory.values(), strict=True)])
            np.testing.assert_allclose(state.mixture.means, parameters.means, rtol=1e-9, atol=1e-11)
            np.testing.assert_allclose(state.mixture.covariances, parameters.covariances, rtol=1e-8, atol=1e-10)
    density = reference.log_density(reference.log_joint(rows, parameters)).mean()
    assert note.lower_bound <= density
    assert note.lower_bound == pytest.approx(density, abs=0.05)


def test_the_free_energy_is_the_log_likelihood_where_nothing_moves() -> None:
    start = random_mixture(np.random.default_rng(0), "full", 1, 2)
    rows = start.sample(400, np.random.default_rng(2))[0]
    plan = interleaved(np.arange(0, 401, 50), 2, 64, 100, 10**6)
    run = run_of("run", Incremental(tol=1e-9), start, frame_of_rows(start, rows), beginning=Beginning(0, plan.steps))
    bounds: list[float] = []
    (ended,) = fit_data(
        Data(ArraySource(rows), plan, Threads(1)),
        run,
        emit=lambda e: bounds.append(e.lower_bound) if isinstance(e, PassDone) else None,
    )
    found = ended.frame.mixture_out(ended.state.mixture)
    assert bounds[-1] == pytest.approx(reference.log_density(reference.log_joint(rows, parameters_of(found))).mean())


def test_what_incremental_em_keeps_is_in_the_memory_that_is_computed() -> None:
    assert Incremental().kept_bytes(1000, 500) > 500_000 > 10 * Stochastic().kept_bytes(1000, 500)


# --- SQUAREM ---------------------------------------------------------------------------------------------------


def bounds_of(algorithm: Batch | Squarem, rows: np.ndarray, start: Mixture) -> np.ndarray:
    bounds: list[float] = []

    def emit(event: Event) -> None:
        if isinstance(event, PassDone):
            bounds.append(event.lower_bound)

    fit_data(data_of(rows, block_rows=2048), run_of("run", algorithm, start, frame_of_rows(start, rows)), emit=emit)
    return np.array(bounds)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_squarem_needs_few_of_the_passes_of_slow_em(covariance_type: str) -> None:
    ratios, extra = [], []
    for seed in range(3):
        truth = synthetic_mixture(4, 3, covariance_type, seed, 1.2)
        rows = truth.sample(4000, np.random.default_rng(seed))[0]
        start = replace(truth, means=truth.means + 0.5 * np.random.default_rng(seed).normal(size=truth.means.shape))
        em = Batch(tol=1e-8, max_iter=3000, stop="predicted")
        plain, fast = bounds_of(em, rows, start), bounds_of(Squarem(em), rows, start)
        passes = [1 + int(np.argmax(bounds[-1] - bounds <= 1e-4)) for bounds in (plain, fast)]
        assert fast[-1] >= plain[-1] - 1e-3
        assert np.diff(fast).min() >= -1e-12 * abs(fast[-1])
        extra.append(passes[1] - passes[0])
        ratios.append(passes[1] / passes[0] if passes[0] >= 30 else None)
    slow = [ratio for ratio in ratios if ratio is not None]
    assert max(extra) <= 3
    assert not slow or np.median(slow) <= 0.6


def answers(bound: float, of: Stats) -> Stats:
    """Statistics with another log likelihood."""
    return Stats(of.layout, of.origin, np.concatenate([of.vector[:2], [bound * of.weight], of.vector[3:]]))


def test_a_trial_that_is_worse_is_rejected_without_another_pass() -> None:
    start = random_mixture(np.random.default_rng(0), "full", 2, 2)
    rows = random_mixture(np.random.default_rng(1), "full", 2, 2).sample(500, np.random.default_rng(2))[0]
    algorithm, prior, plan = Squarem(Batch(tol=0)), Prior(np.zeros((2, 2, 2))), data_of(rows).plan
    state = algorithm.start(start, Beginning())
    for _ in range(60):
        request = algorithm.ask(state, plan)
        work = ESteps(tuple((identity_frame(2), step.by("products")) for step in request.steps), 64)
        answer: Answer = data_of(rows).sums(work).items
        if state.trial is not None:
            break
        state, _ = algorithm.tell(state, answer, prior)
    own, tried = answer
    last = own.log_likelihood / own.weight
    for bound, kept in ((last - 1.0, own), (float("nan"), own), (last + 1.0, tried)):
        following, note = algorithm.tell(state, (own, answers(bound, tried)), prior)
        assert isinstance(following, SquaremState)
        np.testing.assert_array_equal(following.mixture.means, m_step(kept, prior).means)
        assert following.trial is None
        assert note.lower_bound == max(last, bound if bound == bound else last)
        assert (following.longest < state.longest) == (kept is own)


def test_only_batch_em_is_accelerated() -> None:
    rows = np.random.default_rng(0).normal(size=(100, 2))
    with pytest.raises(ValueError, match="accelerate='squarem' goes with algorithm='em', not with 'stochastic'"):
        GaussianMixture(2, algorithm="stochastic", accelerate="squarem").fit(rows)


@pytest.mark.parametrize(
    ("settings", "n", "name", "stop"),
    [
        ({}, 500, "Batch", "gain"),
        ({}, 20_000, "Squarem", "predicted"),
        ({"accelerate": None}, 20_000, "Batch", "predicted"),
        ({"accelerate": "squarem"}, 500, "Squarem", "gain"),
        ({"algorithm": Batch(max_iter=3)}, 20_000, "Batch", "gain"),
        ({"stop": "gain"}, 20_000, "Squarem", "gain"),
    ],
)
def test_what_runs_by_default(settings: dict[str, object], n: int, name: str, stop: str) -> None:
    rows = np.random.default_rng(0).normal(size=(n, 2))
    model = GaussianMixture(2, random_state=0, sample_rows=1000, tol=1e-2, **settings).fit(rows)  # type: ignore[arg-type]
    ran = model.provenance_["settings"]["algorithm"]
    assert (ran["name"], ran["stop"]) == (name, stop)


# --- whole fits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["iid", "sorted"])
@pytest.mark.parametrize("algorithm", ["stochastic", "incremental"])
def test_one_lap_over_all_rows_is_nearly_converged(algorithm: str, order: str) -> None:
    truth = synthetic_mixture(6, 3, "full", 0, 3.0)
    rows, labels = truth.sample(60_000, np.random.default_rng(0))
    rows = rows[np.argsort(labels, kind="stable")] if order == "sorted" else rows
    unseen = truth.sample(50_000, np.random.default_rng(1))[0]
    settings = {"random_state": 0, "sample_rows": 100 * truth.n_parameters}
    found = GaussianMixture(6, algorithm=algorithm, tol=0, max_iter=1, **settings).fit(rows)
    best = GaussianMixture(6, tol=1e-6, **settings).fit(rows)
    assert found.score(unseen) > best.score(unseen) - 0.002
    assert len(found.history_) == 1
    assert found.history_[0]["rows"] == len(rows)


def test_the_outcome_says_what_each_stage_bought() -> None:
    rows = synthetic_mixture(3, 2).sample(30_000, np.random.default_rng(0))[0]
    model = GaussianMixture(3, random_state=0, sample_rows=2000).fit(rows)
    stages = {stage["stage"]: stage for stage in model.provenance_["stages"]}
    assert list(stages) == ["first look", "start", "passes"]
    assert stages["passes"]["passes"] == model.n_iter_
    assert stages["passes"]["gained"] == pytest.approx(model.lower_bounds_[-1] - model.lower_bounds_[0])
    assert f"passes {stages['passes']['gained']:+.2g} nats per row in {model.n_iter_} passes" in model.outcome_.took
    assert stages["start"]["gained"] > 0


@pytest.mark.parametrize("algorithm", ["em", "stochastic", "incremental"])
def test_a_warm_start_goes_on_where_the_last_fit_ended(algorithm: str) -> None:
    rows = synthetic_mixture(3, 2).sample(20_000, np.random.default_rng(0))[0]
    model = GaussianMixture(
        3, algorithm=algorithm, warm_start=True, random_state=0, sample_rows=2000, tol=0, max_iter=1
    )
    first = model.fit(rows).score(rows)
    assert model.fit(rows).score(rows) >= first - 1e-4
    assert model.n_iter_ == 1
