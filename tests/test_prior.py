"""prior="mclust" and weight_concentration: their formulas, an objective that never falls, and no collapse."""

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import dirichlet

from gmmdask import GaussianMixture
from gmmdask.algorithms import (
    Algorithm,
    Batch,
    Beginning,
    Gradient,
    Incremental,
    Online,
    Riemannian,
    Squarem,
    Stochastic,
)
from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.frame import Conjugate, Prior
from gmmdask.mixture import Mixture
from gmmdask.mstep import central, m_step
from gmmdask.outcome import Event, PassDone
from gmmdask.run import Run
from gmmdask.testing import reference
from gmmdask.testing.contracts import AlgorithmTests
from gmmdask.testing.contracts.algorithm import PLAN
from gmmdask.testing.passes import e_step, frame_of_rows, identity_frame, parameters_of, run_of
from gmmdask.testing.strategies import LAW, covariance_types, mixtures, random_mixture, row_arrays

# --- the M-step ------------------------------------------------------------------------------------------------


def by_the_book(mixture: Mixture, rows: Array) -> tuple[Array, Array]:
    """Means and own-shape covariances of one step, from dense moments, by the closed forms with mean 0."""
    k, d, kappa, nu, scale = *mixture.means.shape, 0.01, mixture.d + 2, mixture.n_components ** (-2 / mixture.d)
    sums = reference.statistics(rows, parameters_of(mixture), np.zeros((k, d)))
    means, scatters = [], []
    for mass, first, second in zip(sums.mass, sums.first, sums.second, strict=True):
        about = second - np.outer(first, first) / mass
        scatters.append(about + kappa / ((kappa + mass) * mass) * np.outer(first, first))
        means.append(first / (mass + kappa))
    prior, dense, mass = scale * np.eye(d), np.array(scatters), sums.mass
    forms: dict[str, Callable[[], Array]] = {
        "full": lambda: (prior + dense) / (nu + mass + d + 2)[:, None, None],
        "tied": lambda: (prior + dense.sum(axis=0)) / (nu + mass.sum() + d + 1 + k),
        "diag": lambda: (scale + np.einsum("kii->ki", dense)) / (nu + mass + 3)[:, None],
        "spherical": lambda: (scale + np.einsum("kii->k", dense)) / (nu + (mass + 1) * d + 2),
    }
    return np.array(means), forms[mixture.covariance_type]()


@LAW
@given(data=st.data(), kernel=st.sampled_from(["products", "centred"]))
def test_one_step_is_that_of_the_closed_forms(data: st.DataObject, kernel: str) -> None:
    mixture = data.draw(mixtures(data.draw(covariance_types)))
    rows, (k, d) = data.draw(row_arrays(mixture.d)), mixture.means.shape
    stats = e_step(rows, mixture, kernel, identity_frame(d), [(0, len(rows))])
    found = m_step(stats, Prior(np.zeros_like(mixture.covariances), Conjugate.named("mclust", k, d)))
    means, covariances = by_the_book(mixture, rows)
    np.testing.assert_allclose(found.means, means, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found.covariances, covariances, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_an_empty_component_is_where_the_prior_has_it(covariance_type: str) -> None:
    mixture = random_mixture(np.random.default_rng(0), covariance_type, 3, 2)
    stats = e_step(mixture.sample(90, np.random.default_rng(0))[0], mixture, "products", identity_frame(2), [(0, 90)])
    stats.mass[1] = stats.first[1] = 0.0
    if not mixture.family.shared:
        stats.second[1] = 0.0
    found = m_step(stats, Prior(np.zeros_like(mixture.covariances), Conjugate.named("mclust", 3, 2)))
    np.testing.assert_allclose(found.means[1], 0, atol=1e-12)
    assert np.isfinite(found.root).all()


@LAW
@given(data=st.data(), concentration=st.floats(1, 50))
def test_a_concentration_adds_rows_to_every_component(data: st.DataObject, concentration: float) -> None:
    """π = (N + α - 1)/(W + K (α - 1)), with means and covariances as they are without; α = 1 is none, to the bit."""
    mixture = data.draw(mixtures(data.draw(covariance_types)))
    rows, k = mixture.sample(200, np.random.default_rng(0))[0], mixture.n_components
    stats = e_step(rows, mixture, "products", identity_frame(mixture.d), [(0, len(rows))])
    flat = np.zeros_like(mixture.covariances)
    plain, found = (m_step(stats, Prior(flat, concentration=alpha)) for alpha in (1.0, concentration))
    mass = reference.statistics(rows, parameters_of(mixture), mixture.means).mass
    np.testing.assert_allclose(found.weights, (mass + concentration - 1) / (200 + k * (concentration - 1)), rtol=1e-9)
    assert found.weights.sum() == pytest.approx(1, abs=1e-14)
    assert found.means.tobytes() == plain.means.tobytes()
    assert found.covariances.tobytes() == plain.covariances.tobytes()
    counts = central(stats)[0]
    assert plain.weights.tobytes() == (counts / counts.sum()).tobytes()


def test_the_log_prior_of_weights_is_that_of_dirichlet() -> None:
    """Up to its constant; a weight of zero makes it low, and not infinite."""
    mixture = random_mixture(np.random.default_rng(0), "diag", 3, 2)
    other = dataclasses.replace(mixture, weights=np.array([0.2, 0.7, 0.1]))
    prior = Prior(np.zeros((3, 2)), concentration=4.5)
    wanted = [dirichlet(np.full(3, 4.5)).logpdf(each.weights) for each in (other, mixture)]
    assert prior.log_density(other) - prior.log_density(mixture) == pytest.approx(wanted[0] - wanted[1], rel=1e-12)
    assert Prior(np.zeros((3, 2))).log_density(mixture) == 0
    none = dataclasses.replace(mixture, weights=np.array([0.5, 0.5, 0.0]))
    assert -1e4 < prior.log_density(none) < -1e3


@pytest.mark.parametrize("concentration", [1.0, 30.0])
def test_a_mini_batch_does_not_make_the_prior_weigh_more(concentration: float) -> None:
    """Running sums are worth fewer rows than have come; the prior is that of all rows."""
    mixture = random_mixture(np.random.default_rng(0), "diag", 2, 2)
    stats = e_step(mixture.sample(400, np.random.default_rng(0))[0], mixture, "products", identity_frame(2), [(0, 400)])
    conjugate = Conjugate.named("mclust", 2, 2) if concentration == 1 else None
    prior = Prior(np.zeros((2, 2)), conjugate, weight=400.0, concentration=concentration)
    whole = m_step(stats, prior)
    for worth, rows in ((0.01, 400.0), (1.0, 4000.0), (3.0, 400.0)):
        online = Online(mixture, "equal", 0.6, rows=rows)
        found = online._m_step(stats.scaled(worth), prior)
        np.testing.assert_allclose(found.covariances, whole.covariances, rtol=1e-12)
        np.testing.assert_allclose(found.weights, whole.weights, rtol=1e-12)


# --- algorithms ------------------------------------------------------------------------------------------------


class Penalised:
    """Runs under the conjugate prior, if there is one, and a Dirichlet prior of weights."""

    algorithm: ClassVar[Algorithm]
    conjugate: ClassVar[str | None] = "mclust"
    concentration: ClassVar[float] = 1.0
    told_of_the_mixture: ClassVar[bool] = False  # or of the one before its last step
    sampled: ClassVar[bool]

    @pytest.fixture
    def run(self, start: Mixture, rows: Array) -> Run:
        beginning = Beginning(3, PLAN.steps, held_out=self.sampled)
        run = run_of("run", self.algorithm, start, frame_of_rows(start, rows), 0.0, beginning)
        known = {"conjugate": Conjugate.named(self.conjugate, *start.means.shape), "concentration": self.concentration}
        return dataclasses.replace(run, prior=dataclasses.replace(run.prior, weight=650.0, **known))

    def test_both_bounds_are_told(self, run: Run, rows: Array) -> None:
        passes: list[PassDone] = []

        def emit(event: Event) -> None:
            if isinstance(event, PassDone):
                passes.append(event)

        ended = self.ended(run, rows, emit=emit)  # type: ignore[attr-defined]
        assert all(event.log_likelihood != event.lower_bound for event in passes)
        if self.told_of_the_mixture:
            share = run.prior.log_density(ended.state.mixture) / 650
            assert passes[-1].lower_bound - passes[-1].log_likelihood == pytest.approx(share, abs=1e-10)


class TestBatchWithAPrior(Penalised, AlgorithmTests):
    algorithm, max_iter, monotone = Batch(tol=0, max_iter=12), 12, True


class TestBatchWithAPriorOfWeights(Penalised, AlgorithmTests):
    algorithm, max_iter, monotone = Batch(tol=0, max_iter=12), 12, True
    conjugate, concentration = None, 40.0


class TestSquaremWithAPrior(Penalised, AlgorithmTests):
    algorithm, max_iter, monotone = Squarem(Batch(tol=0, max_iter=14)), 14, True
    concentration = 40.0


class TestIncrementalWithAPrior(Penalised, AlgorithmTests):
    algorithm, max_iter, monotone = Incremental(tol=0, max_iter=4), 4, True
    concentration, told_of_the_mixture = 40.0, True


class TestStochasticWithAPrior(Penalised, AlgorithmTests):
    algorithm, max_iter = Stochastic(tol=0, max_iter=2), 2
    concentration, told_of_the_mixture, sampled = 40.0, True, True


class TestLbfgsWithAPrior(Penalised, AlgorithmTests):
    algorithm, max_iter, monotone = Gradient(tol=0, max_iter=12), 12, True
    concentration, told_of_the_mixture = 40.0, True


class TestProjectedWithAPrior(Penalised, AlgorithmTests):
    algorithm, max_iter, monotone = Gradient("projected", tol=0, max_iter=12), 12, True
    concentration, families = 40.0, ("diag",)


class TestRiemannianWithAPrior(Penalised, AlgorithmTests):
    algorithm, max_iter, monotone = Riemannian(tol=0, max_iter=12), 12, True
    concentration, told_of_the_mixture, families = 40.0, True, ("full",)


class TestMiniBatchesWithAPrior(Penalised, AlgorithmTests):
    algorithm, max_iter = Gradient("adam", tol=0, max_iter=2, mini_batches=9), 2
    concentration, told_of_the_mixture, sampled = 40.0, True, True


# --- fits ------------------------------------------------------------------------------------------------------

HUNDRED = np.random.default_rng(0).normal(size=(100, 3)) * [1.0, 30.0, 0.1] + [0.0, 1e4, 0.0]
HARD = {
    "50 components": (HUNDRED, 50),
    "duplicates": (np.repeat(HUNDRED[:7], 20, axis=0), 5),
    "more components than rows that differ": (np.repeat(HUNDRED[:4], 20, axis=0), 6),
    "one row, repeated": (np.tile(HUNDRED[0], (40, 1)), 3),
    "one row": (HUNDRED[:1], 1),
    "a constant feature": (np.column_stack([HUNDRED, np.ones(100)]), 4),
}


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("init_params", ["kmeans", "random_from_data"])
def test_nothing_collapses(case: str, init_params: str, covariance_type: str) -> None:
    check_that_nothing_collapses(case, covariance_type, init_params, "em")


CLIMBERS = {
    "lbfgs": "gradient",
    "adam": Gradient("adam", max_iter=30, learning_rate=0.1),
    "sgd": Gradient("sgd", max_iter=30),
    "projected": Gradient("projected", max_iter=30),
    "riemannian": "riemannian",
}


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize("case", ["50 components", "duplicates", "one row, repeated"])
@pytest.mark.parametrize("name", CLIMBERS)
def test_nothing_collapses_by_gradients_either(case: str, name: str, covariance_type: str) -> None:
    if name == "riemannian" and covariance_type != "full":
        pytest.skip("for full covariances")
    check_that_nothing_collapses(case, covariance_type, "kmeans", CLIMBERS[name])


def check_that_nothing_collapses(case: str, covariance_type: str, init_params: str, algorithm: str | Algorithm) -> None:
    rows, k = HARD[case]
    settings = {"covariance_type": covariance_type, "init_params": init_params, "random_state": 0, "prior": "mclust"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of rows that lack spread, and of convergence
        found = GaussianMixture(k, max_iter=30, algorithm=algorithm, **settings).fit(rows)
    for numbers in (found.weights_, found.means_, found.covariances_, found.precisions_cholesky_):
        assert np.isfinite(numbers).all()
    spread = np.maximum(rows.var(axis=0), 1e-300)
    spread[rows.var(axis=0) < 1e-12] = 1.0  # where the data says nothing, the prior has the data's unit
    if covariance_type == "spherical":
        spread[:] = rows.var(axis=0).mean() or 1.0
    variances = np.einsum("kii->ki", found.mixture_.dense_covariances())
    assert (variances / spread).min() > 1e-4 / len(rows)
    assert np.isfinite(found.score_samples(rows)).all()


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize("accelerate", [None, "squarem"])
def test_the_objective_never_falls_and_the_history_has_both(covariance_type: str, accelerate: str | None) -> None:
    rows = HUNDRED[:60]
    settings = {"covariance_type": covariance_type, "accelerate": accelerate, "prior": "mclust", "random_state": 0}
    found = GaussianMixture(4, tol=0, max_iter=25, **settings).fit(rows)
    assert "reseeded" not in found.outcome_.sentence
    bounds = np.array(found.lower_bounds_)
    assert np.all(np.diff(bounds) >= -1e-12 * np.abs(bounds[1:]))
    last = GaussianMixture(4, tol=0, max_iter=26, **settings).fit(rows).history_[-1]
    assert last["log_likelihood"] == pytest.approx(found.score(rows), abs=1e-9)
    assert last["lower_bound"] != last["log_likelihood"]
    plain = GaussianMixture(4, tol=0, max_iter=3, covariance_type=covariance_type, random_state=0).fit(rows)
    assert [row["log_likelihood"] for row in plain.history_] == plain.lower_bounds_


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_a_fit_under_the_prior_commutes_with_units_and_offsets(covariance_type: str) -> None:
    scale = 250.0 if covariance_type == "spherical" else np.array([1e3, 1e-3, 7.0])
    start = {"weights_init": [0.5, 0.5], "covariance_type": covariance_type, "tol": 0, "max_iter": 8}
    fits = []
    for unit, offset in ((1.0, 0.0), (scale, 5.0)):
        rows = HUNDRED * unit + offset
        precision = np.linalg.inv(np.diag(rows.var(axis=0)))
        if covariance_type == "spherical":
            precision = 1 / np.full(2, rows.var(axis=0).mean())
        elif covariance_type == "diag":
            precision = np.tile(np.diag(precision), (2, 1))
        elif covariance_type == "full":
            precision = np.tile(precision, (2, 1, 1))
        given = {"means_init": rows[:2], "precisions_init": precision}
        fits.append(GaussianMixture(2, prior="mclust", **start, **given).fit(rows))
    np.testing.assert_allclose(fits[1].means_, fits[0].means_ * scale + 5.0, rtol=1e-7)
    np.testing.assert_allclose(fits[1].weights_, fits[0].weights_, rtol=1e-7)


def test_stochastic_em_ends_near_the_batch_fit() -> None:
    mixture = random_mixture(np.random.default_rng(3), "full", 3, 2, separation=4.0)
    rows = mixture.sample(4000, np.random.default_rng(0))[0]
    settings = {"prior": "mclust", "random_state": 0, "sample_rows": 500, "weight_concentration": 2000.0}
    batch = GaussianMixture(3, tol=1e-5, **settings).fit(rows)
    online = GaussianMixture(3, algorithm=Stochastic(tol=0, max_iter=2), **settings).fit(rows)
    assert online.score(rows) == pytest.approx(batch.score(rows), abs=2e-3)
    np.testing.assert_allclose(online.sorted().weights_, batch.sorted().weights_, atol=0.01)
    shares = [fit.history_[-1]["lower_bound"] - fit.history_[-1]["log_likelihood"] for fit in (online, batch)]
    assert shares[0] == pytest.approx(shares[1], rel=0.1)


UNEVEN = Mixture("full", np.array([0.6, 0.3, 0.1]), np.array([[0.0, 0], [6, 0], [0, 6]]), np.array([np.eye(2)] * 3))
EASY = UNEVEN.sample(600, np.random.default_rng(0))[0]
STILL: dict[str, Any] = {"tol": 0, "max_iter": 40}
LONG: dict[str, Any] = {"tol": 0, "max_iter": 200}
WAYS: dict[str, Algorithm] = {
    "em": Batch(**STILL),
    "squarem": Squarem(Batch(**STILL)),
    "incremental": Incremental(tol=0, max_iter=12, mini_batches=8),
    "lbfgs": Gradient(**STILL, gradient_tol=1e-9),
    "adam": Gradient("adam", **LONG, learning_rate=0.05, schedule="inverse"),
    "sgd": Gradient("sgd", **LONG, learning_rate=0.2, momentum=0.5),
    "projected": Gradient("projected", **LONG),
    "riemannian": Riemannian(**STILL, gradient_tol=1e-9),
}


@pytest.mark.parametrize("prior", [None, "mclust"])
def test_all_ways_end_at_one_maximum_under_a_prior_of_weights(prior: str | None) -> None:
    settings = {"prior": prior, "weight_concentration": 101.0, "random_state": 0}
    fits = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, algorithm in WAYS.items():
            fits[name] = GaussianMixture(3, algorithm=algorithm, **settings).fit(EASY).sorted()
    em = fits["em"]
    counts = em.predict_proba(EASY).sum(axis=0)
    np.testing.assert_allclose(em.weights_, (counts + 100) / 900, atol=1e-8)
    assert em.lower_bound_ != pytest.approx(em.score(EASY), abs=0.1)
    for name, found in fits.items():
        np.testing.assert_allclose(found.weights_, em.weights_, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(found.means_, em.means_, atol=1e-3, err_msg=name)
        assert found.lower_bound_ == pytest.approx(em.lower_bound_, abs=1e-6), name


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_weights_are_drawn_together_by_rows_whatever_these_weigh(covariance_type: str) -> None:
    settings = {"covariance_type": covariance_type, "means_init": UNEVEN.means, "weights_init": UNEVEN.weights}
    settings |= {"precisions_init": random_mixture(np.random.default_rng(0), covariance_type, 3, 2).covariances}
    weights = []
    for concentration in (1.0, 11.0, 1e9):
        twice = GaussianMixture(3, weight_concentration=concentration, **settings).fit(np.repeat(EASY, 2, axis=0))
        found = GaussianMixture(3, weight_concentration=concentration, **settings)
        weights.append(found.fit(EASY, sample_weight=np.full(600, 2.0)).weights_)
        np.testing.assert_allclose(found.weights_, twice.weights_, rtol=1e-9)
    spread = [np.ptp(each) for each in weights]
    assert spread[0] > spread[1] > spread[2]
    np.testing.assert_allclose(weights[2], 1 / 3, atol=1e-6)


def test_a_prior_of_weights_does_not_keep_a_component_that_has_no_rows() -> None:
    """Its weight would stay above zero for ever: rows decide, as under the other prior."""
    far = np.vstack([UNEVEN.means[:2], [[500.0, 500.0]]])
    given = {"means_init": far, "weights_init": UNEVEN.weights, "precisions_init": UNEVEN.covariances}
    settings = {"weight_concentration": 50.0, "tol": 1e-6, **given}
    found = GaussianMixture(3, empty="drop", **settings).fit(EASY)
    assert "were dropped: 2 of 3" in found.outcome_.sentence
    counts = found.predict_proba(EASY).sum(axis=0)
    np.testing.assert_allclose(found.weights_, (counts + 49) / 698, atol=1e-4)
    assert "reseeded, once" in GaussianMixture(3, **settings).fit(EASY).outcome_.sentence


def test_a_concentration_is_a_setting_that_older_files_do_not_have(tmp_path: Path) -> None:
    for wrong in (0.5, 0, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"weight_concentration=.*at least 1\. Below 1 the prior is unbounded"):
            GaussianMixture(2, weight_concentration=wrong).fit(EASY)
    with pytest.raises(ValueError, match="The 'weight_concentration' parameter of GaussianMixture must be"):
        GaussianMixture(2, weight_concentration="flat").fit(EASY)
    with pytest.raises(ValueError, match=r"weight_concentration=2\.0: partial_fit learns without a prior of weights"):
        GaussianMixture(2, weight_concentration=2.0).partial_fit(EASY)
    checkpoint, settings = tmp_path / "c", {"random_state": 0, "max_iter": 100}
    plain = GaussianMixture(3, checkpoint=checkpoint, **settings).fit(EASY)
    assert "weight_concentration" not in plain.provenance_["settings"]
    with pytest.raises(ValueError, match=r"weight_concentration: None then, 9\.0 now"):
        GaussianMixture(3, checkpoint=checkpoint, weight_concentration=9, **settings).fit(EASY, resume=True)
    again = GaussianMixture(3, checkpoint=checkpoint, **settings).fit(EASY, resume=True)
    assert again.weights_.tobytes() == plain.weights_.tobytes()
    settings |= {"weight_concentration": 9, "checkpoint": tmp_path / "d"}
    found = GaussianMixture(3, **settings).fit(EASY)
    again = GaussianMixture(3, **settings).fit(EASY, resume=True)
    assert again.weights_.tobytes() == found.weights_.tobytes() != plain.weights_.tobytes()
    found.save(tmp_path / "m.gmm")
    assert GaussianMixture.load(tmp_path / "m.gmm").weight_concentration == 9
    assert found.made(found.provenance_, EASY)
    assert not plain.made(found.provenance_, EASY)


def test_the_prior_takes_the_place_of_reg_covar(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=r"reg_covar=0\.001: prior='mclust' takes its place"):
        GaussianMixture(2, prior="mclust", reg_covar=1e-3).fit(HUNDRED)
    with pytest.raises(ValueError, match="prior='mclust': partial_fit learns without a prior"):
        GaussianMixture(2, prior="mclust").partial_fit(HUNDRED)
    with pytest.raises(ValueError, match="The 'prior' parameter of GaussianMixture must be"):
        GaussianMixture(2, prior="flat").fit(HUNDRED)
    checkpoint = tmp_path / "c"
    found = GaussianMixture(2, prior="mclust", random_state=0, checkpoint=checkpoint).fit(HUNDRED)
    again = GaussianMixture(2, prior="mclust", random_state=0, checkpoint=checkpoint).fit(HUNDRED, resume=True)
    assert again.means_.tobytes() == found.means_.tobytes()
    with pytest.raises(ValueError, match="prior: 'mclust' then, None now"):
        GaussianMixture(2, random_state=0, checkpoint=checkpoint).fit(HUNDRED, resume=True)
    assert json.loads(json.dumps(found.provenance_))["settings"]["prior"] == "mclust"
    found.save(tmp_path / "m.gmm")
    assert GaussianMixture.load(tmp_path / "m.gmm").prior == "mclust"
