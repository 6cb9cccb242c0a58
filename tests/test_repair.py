"""Components that hold too few rows: reseeded, dropped or an error, and never silent."""

import dataclasses
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture as Oracle

from gmmdask import GaussianMixture
from gmmdask.algorithms import Algorithm, Batch, Beginning, Incremental, Squarem, State, Stochastic
from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.frame import Prior
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.outcome import ComponentDropped, ComponentReseeded, ComponentsWithoutRows, Event, PassDone
from gmmdask.repair import EmptyComponent, Repair, poor, repaired
from gmmdask.run import Run
from gmmdask.stats import Stats
from gmmdask.testing.contracts import AlgorithmTests
from gmmdask.testing.contracts.algorithm import PLAN, SHAPE
from gmmdask.testing.passes import e_step, frame_of_rows, identity_frame, run_of
from gmmdask.testing.strategies import LAW, covariance_types, generators, mixtures, random_mixture

# --- statistics ------------------------------------------------------------------------------------------------


@st.composite
def taken(draw: st.DrawFn) -> tuple[Mixture, Stats, Stats, int, int]:
    """A mixture, statistics of two sets of rows at it, and two of its components."""
    mixture = draw(mixtures(draw(covariance_types)).filter(lambda mixture: mixture.n_components > 1))
    rng, kernel = draw(generators), draw(st.sampled_from(["products", "centred"]))
    one, two = (
        e_step(mixture.sample(n, rng)[0], mixture, kernel, identity_frame(mixture.d), [(0, n)]) for n in (150, 70)
    )
    component, other = draw(st.permutations(range(mixture.n_components)))[:2]
    return mixture, one, two, component, other


def totals(stats: Stats) -> Array:
    """What repairs must keep: mass and moments, summed over components."""
    about = stats.about(np.zeros_like(stats.origin))
    return np.concatenate([[about.mass.sum()], about.first.sum(axis=0), about.second.sum(axis=0)])


@LAW
@given(drawn=taken(), rng=generators, drop=st.booleans())
def test_a_repair_keeps_the_sums_and_is_linear(drawn: Any, rng: np.random.Generator, drop: bool) -> None:
    mixture, one, two, component, other = drawn
    repair = Repair(component, 0.0, other, None if drop else rng.normal(size=mixture.d))
    found = repair.on(one)
    np.testing.assert_allclose(totals(found), totals(one), rtol=1e-10, atol=1e-9)
    assert found.layout.n_components == mixture.n_components - drop
    together = repair.on(one + two)
    np.testing.assert_allclose(together.vector, (found + repair.on(two)).vector, rtol=1e-10, atol=1e-8)
    np.testing.assert_array_equal(one.vector[:4], found.vector[:4])


@LAW
@given(drawn=taken())
def test_halves_lie_to_either_side_of_the_whole(drawn: Any) -> None:
    """As those of a Gaussian that is cut in the middle: means at ± sqrt(2/π) σ, a variance of 1 - 2/π."""
    mixture, stats, _, component, _ = drawn
    prior = Prior(mixture.family.isotropic(0.0, mixture.n_components, mixture.d))
    stats.mass[component], stats.first[component] = 0.5, 0.0
    if not mixture.family.shared:
        stats.second[component] = 0.0
    mended, (repair,) = repaired(stats, dataclasses.replace(prior, row=1.0), 0, 1)
    heaviest, whole, halves = repair.other, m_step(stats.joined(component, repair.other), prior), m_step(mended, prior)
    assert heaviest == np.argmax(stats.mass)
    assert repair.component == component
    middle = halves.means[[component, heaviest]].mean(axis=0)
    np.testing.assert_allclose(middle, whole.means[heaviest], atol=1e-9)
    shift = halves.means[component] - middle
    variances = np.linalg.eigvalsh(whole.dense_covariances()[heaviest])
    assert shift @ shift == pytest.approx(2 / np.pi * variances[-1], rel=1e-8)
    if not mixture.family.shared:
        ours, theirs = halves.dense_covariances()[[component, heaviest]]
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
        lost = np.trace(whole.dense_covariances()[heaviest] - ours)
        assert lost == pytest.approx(shift @ shift, rel=1e-7)


def test_rows_that_are_all_the_same_are_not_split() -> None:
    mixture = Mixture("full", np.array([0.9, 0.1]), np.zeros((2, 2)), np.array([np.eye(2)] * 2))
    stats = e_step(np.full((50, 2), 3.0), mixture, "centred", identity_frame(2), [(0, 50)])
    stats.mass[1] = 0.0
    prior = Prior(1e-6 * np.array([np.eye(2)] * 2))
    assert repaired(stats, prior, 0, 1) == (stats, ())
    assert poor(stats, prior) == (1,)


def test_reseeds_end() -> None:
    mixture = random_mixture(np.random.default_rng(0), "diag", 2, 2)
    stats = e_step(mixture.sample(50, np.random.default_rng(0))[0], mixture, "products", identity_frame(2), [(0, 50)])
    stats.mass[1] = 0.2
    prior = Prior(np.zeros((2, 2)))
    assert len(repaired(stats, prior, 5, 1)[1]) == 1
    assert repaired(stats, prior, 6, 1)[1] == ()


@pytest.mark.parametrize(("covariance_type", "least"), [("full", 4), ("tied", 1), ("diag", 2), ("spherical", 2)])
def test_rows_that_a_covariance_needs(covariance_type: str, least: int) -> None:
    """Where nothing else carries it; the weight of a row may be any."""
    mixture = random_mixture(np.random.default_rng(0), covariance_type, 2, 3)
    stats = e_step(mixture.sample(50, np.random.default_rng(0))[0], mixture, "products", identity_frame(3), [(0, 50)])
    bare, carried = (Prior(mixture.family.isotropic(reg, 2, 3)) for reg in (0.0, 1e-6))
    for prior, needed in ((bare, least), (carried, 1)):
        stats.mass[1] = needed * (1 - 1e-4)
        assert poor(stats, prior) == ()
        assert poor(stats.scaled(1e-3), dataclasses.replace(prior, row=1e-3)) == ()
        stats.mass[1] = needed * 0.99
        assert poor(stats, prior) == (1,)


# --- algorithms ------------------------------------------------------------------------------------------------


class Emptied:
    """Starts in which a component is far from all rows."""

    empty: ClassVar[str]
    algorithm: ClassVar[Algorithm]
    sampled: ClassVar[bool]

    @pytest.fixture(params=["full", "tied"])
    def covariance_type(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def start(self, covariance_type: str) -> Mixture:
        mixture = random_mixture(np.random.default_rng(8), covariance_type, *SHAPE)
        mixture.means[1] += 100.0
        return mixture

    @pytest.fixture
    def rows(self, covariance_type: str) -> Array:
        truth = random_mixture(np.random.default_rng(9), covariance_type, *SHAPE)
        return truth.sample(650, np.random.default_rng(10))[0]

    @pytest.fixture
    def run(self, start: Mixture, rows: Array) -> Run:
        frame = frame_of_rows(start, rows)
        run = run_of("run", self.algorithm, start, frame, 1e-6, Beginning(3, PLAN.steps))
        return dataclasses.replace(run, prior=dataclasses.replace(run.prior, empty=self.empty))

    def test_what_was_done_is_told_once(self, run: Run, rows: Array) -> None:
        events: list[Event] = []
        ended = self.ended(run, rows, emit=events.append)  # type: ignore[attr-defined]
        state: State = ended.state
        assert state.outcome is not None
        (told,) = [event for event in events if isinstance(event, ComponentReseeded | ComponentDropped)]
        assert (told.lap, told.component) == (1, 1)
        assert told.mass < 1e-3
        assert not any(isinstance(event, ComponentsWithoutRows) for event in events)
        if self.empty == "drop":
            assert isinstance(told, ComponentDropped)
            assert state.mixture.n_components == 2
            assert "were dropped: 2 of 3 are left." in state.outcome.sentence
        else:
            assert isinstance(told, ComponentReseeded)
            assert state.mixture.weights.min() > 0.02
            assert "A component with too few rows was reseeded, once." in state.outcome.sentence


class TestBatchReseeds(Emptied, AlgorithmTests):
    algorithm, max_iter, empty = Batch(tol=1e-4, max_iter=8), 8, "reseed"


class TestSquaremDrops(Emptied, AlgorithmTests):
    algorithm, max_iter, empty = Squarem(Batch(tol=0, max_iter=9)), 9, "drop"


class TestSquaremReseeds(Emptied, AlgorithmTests):
    algorithm, max_iter, empty = Squarem(Batch(tol=0, max_iter=9)), 9, "reseed"


class TestIncrementalReseeds(Emptied, AlgorithmTests):
    algorithm, max_iter, empty = Incremental(tol=0, max_iter=4), 4, "reseed"


class TestIncrementalDrops(Emptied, AlgorithmTests):
    algorithm, max_iter, empty = Incremental(tol=0, max_iter=4), 4, "drop"


class TestStochasticReseeds(Emptied, AlgorithmTests):
    algorithm, max_iter, empty = Stochastic(tol=1e-3, max_iter=3), 3, "reseed"


class TestStochasticDrops(Emptied, AlgorithmTests):
    algorithm, max_iter, empty = Stochastic(tol=0, max_iter=2, rate="equal"), 2, "drop"


# --- fits ------------------------------------------------------------------------------------------------------

ROWS = np.concatenate([np.zeros((50, 2)), np.ones((50, 2))]) + np.random.default_rng(0).normal(0, 0.1, (100, 2))
FAR = {"means_init": [[0, 0], [1, 1], [50, 50]], "weights_init": [0.4, 0.4, 0.2], "covariance_type": "diag"}
FAR["precisions_init"] = np.full((3, 2), 100.0)


def test_a_reseed_finds_what_the_start_has_missed() -> None:
    """Three groups of rows, and a start whose third component is nowhere: the wide component is cut in two."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(200, 2)) + centre for centre in ([0, 0], [12, 0], [24, 0])])
    start = {"means_init": [[0, 0], [18, 0], [900, 900]], "weights_init": [0.3, 0.6, 0.1]}
    start["precisions_init"] = np.array([np.eye(2), np.diag([0.02, 1]), np.eye(2)])
    bounds: list[float] = []

    def emit(event: Event) -> None:
        if isinstance(event, PassDone):
            bounds.append(event.lower_bound)

    found = GaussianMixture(3, reg_covar=0, tol=1e-8, callbacks=(emit,), **start).fit(rows)
    np.testing.assert_allclose(np.sort(found.means_[:, 0]), [0, 12, 24], atol=0.3)
    assert "reseeded, once" in found.outcome_.sentence
    assert bounds[-1] > Oracle(2, random_state=0).fit(rows).score(rows) + 0.1


def test_the_error_names_component_mass_pass_and_remedy() -> None:
    with pytest.raises(EmptyComponent, match=r"pass 1: component 2 holds 0 rows, and needs 1 or more\. Ask for fewer"):
        GaussianMixture(3, empty="error", **FAR).fit(ROWS)


def test_a_model_of_fewer_components_is_one_like_any_other(tmp_path: Any) -> None:
    told: list[Event] = []
    found = GaussianMixture(3, empty="drop", callbacks=(told.append,), **FAR).fit(ROWS)
    assert [event.component for event in told if isinstance(event, ComponentDropped)] == [2]
    assert "2 of 3 are left" in found.outcome_.sentence
    assert found.means_.shape == (2, 2)
    assert found.predict_proba(ROWS).shape == (100, 2)
    found.save(tmp_path / "m.gmm")
    assert GaussianMixture.load(tmp_path / "m.gmm").weights_.tobytes() == found.weights_.tobytes()
    np.testing.assert_array_equal(found.to_sklearn().predict(ROWS), found.predict(ROWS))
    found.set_params(warm_start=True)
    assert found.fit(ROWS).means_.shape == (2, 2)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_fits_in_which_all_components_have_rows_do_not_depend_on_what_is_done_without(covariance_type: str) -> None:
    models = [
        GaussianMixture(3, covariance_type=covariance_type, random_state=0, empty=empty).fit(ROWS)
        for empty in ("reseed", "drop", "error")
    ]
    assert len({model.means_.tobytes() + model.covariances_.tobytes() for model in models}) == 1


def test_a_stream_repairs_nothing_and_says_so() -> None:
    with pytest.raises(ValueError, match="empty='drop': partial_fit leaves components without rows as they are"):
        GaussianMixture(2, empty="drop").partial_fit(ROWS)


def test_a_resumed_fit_must_have_the_same_policy(tmp_path: Any) -> None:
    settings = {"checkpoint": tmp_path / "c", "random_state": 0}
    GaussianMixture(2, **settings).fit(ROWS)
    with pytest.raises(ValueError, match="empty: 'reseed' then, 'drop' now"):
        GaussianMixture(2, empty="drop", **settings).fit(ROWS, resume=True)
