"""noise=True: a uniform component beside the others. Kernels against the reference, algorithms, fits, files."""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any, ClassVar

import dask.array
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import entr

from gmmdask import GaussianMixture, Statistics, match, select
from gmmdask.algorithms import Algorithm, Batch, Beginning, Gradient, Incremental, Riemannian, Squarem, Stochastic
from gmmdask.cli import main
from gmmdask.container import FileError
from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.emptiness import in_empty_places, to_nearest, with_noise
from gmmdask.estep import available
from gmmdask.frame import Prior
from gmmdask.gradients import gradient, objective
from gmmdask.kernels import MISSING
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.noise import Noise
from gmmdask.outcome import Event, PassDone
from gmmdask.repair import dropping
from gmmdask.run import Run
from gmmdask.testing import reference
from gmmdask.testing.contracts import AlgorithmTests
from gmmdask.testing.contracts.algorithm import PLAN
from gmmdask.testing.contracts.sums import assert_e_steps_agree, random_frame, rows_of
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
from gmmdask.testing.strategies import (
    LAW,
    covariance_types,
    generators,
    mixtures,
    random_mixture,
    row_arrays,
    row_weights,
)


def noisy(mixture: Mixture, rows: Array, weight: float = 0.2) -> Mixture:
    """The mixture with noise in the box of rows (n, d), in data units."""
    return with_noise(mixture, Noise(weight, rows.min(axis=0), rows.max(axis=0)), weight)


def contaminated(mixture: Mixture, n: int, seed: int = 0, share: float = 0.1, room: float = 2.0) -> tuple[Array, Array]:
    """n rows of a mixture and some more that are uniform in a box about them, shuffled; and which are these, (n,)."""
    rng = np.random.default_rng(seed)
    clean = mixture.sample(n, rng)[0]
    low, high = clean.min(axis=0), clean.max(axis=0)
    middle, half = (low + high) / 2, room * (high - low) / 2
    rows = np.concatenate([clean, rng.uniform(middle - half, middle + half, size=(round(share * n), mixture.d))])
    order = rng.permutation(len(rows))
    return rows[order], order >= n


APART = random_mixture(np.random.default_rng(4), "full", 3, 2, separation=5.0)
ROWS, OUTLYING = contaminated(APART, 3000)


KERNELS = [name for name in available() if name != MISSING]  # that one is of mixtures without noise


@pytest.fixture(scope="module")
def model() -> GaussianMixture:
    return GaussianMixture(3, noise=True, random_state=0).fit(ROWS)


# --- statistics ------------------------------------------------------------------------------------------------


@LAW
@given(data=st.data(), kind=covariance_types, kernel=st.sampled_from(KERNELS), rng=generators, weighted=st.booleans())
def test_an_e_step_agrees_with_the_reference(
    data: st.DataObject, kind: str, kernel: str, rng: np.random.Generator, weighted: bool
) -> None:
    mixture = data.draw(mixtures(kind))
    frame = random_frame(mixture.family, rng, mixture.d)
    inside = data.draw(row_arrays(mixture.d))
    rows = rows_of(inside, frame)
    noise = Noise(rng.uniform(0.01, 0.9), rows.min(axis=0), rows.max(axis=0), frame.log_det)
    mixture = with_noise(mixture, noise, noise.weight)
    weights = data.draw(row_weights(len(rows))) if weighted else None
    stats = assert_e_steps_agree(data, mixture, inside, kernel, frame, weights)
    mass, first, second = stats.totals()
    w = np.ones(len(rows)) if weights is None else weights
    np.testing.assert_allclose(mass, w.sum(), rtol=1e-12)
    np.testing.assert_allclose(first, w @ inside, atol=1e-10 * w.sum())
    np.testing.assert_allclose(second, mixture.family.pack((inside * w[:, None]).T @ inside), atol=1e-9 * w.sum())


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_batch_em_is_the_references(covariance_type: str, kernel: str) -> None:
    """In data units, although it runs in a frame of its own, where the noise has another density."""
    scale = np.array([3.0, 3.0]) if covariance_type == "spherical" else np.array([30.0, 0.2])
    start = random_mixture(np.random.default_rng(0), covariance_type, 3, 2, separation=1.0)
    rows = np.concatenate(
        [start.sample(400, np.random.default_rng(1))[0], 6 * np.random.default_rng(2).random((40, 2))]
    )
    rows = rows * scale + np.array([100.0, -7.0])
    dense = start.dense_covariances() * np.outer(scale, scale)
    own = np.ascontiguousarray(reference.OWN_SHAPE[covariance_type](start.weights, dense))
    means = start.means * scale + np.array([100.0, -7.0])
    mixture, bounds = noisy(Mixture(covariance_type, start.weights, means, own), rows), list[float]()

    def emit(event: Event) -> None:
        if isinstance(event, PassDone):
            bounds.append(event.lower_bound)

    frame = frame_of_rows(mixture, rows)
    run = with_prior(run_of("run", Batch(tol=0, max_iter=5, kernel=kernel), mixture, frame, 1e-3))
    (ended,) = fit_data(data_of(rows), run, emit=emit)
    weights, means, own, wanted = reference.em(covariance_type, rows, parameters_of(mixture), 5, 1e-3)
    found = mixture_of(ended)
    np.testing.assert_allclose(found.weights, weights, rtol=1e-9)
    np.testing.assert_allclose(found.means, means, rtol=1e-9)
    np.testing.assert_allclose(found.covariances, own, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(bounds, wanted, rtol=1e-11)
    assert found.noise is not None
    np.testing.assert_allclose(found.noise.weight + found.weights.sum(), 1, rtol=1e-14)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_the_gradient_is_that_of_the_objective(covariance_type: str) -> None:
    mixture = random_mixture(np.random.default_rng(0), covariance_type, 2, 2)
    rows = 2 * np.random.default_rng(1).normal(size=(30, 2))
    mixture, prior = noisy(mixture, rows), Prior(np.zeros_like(mixture.covariances), weight=30.0, concentration=2.5)
    at, frame, pieces = mixture.coordinates(), identity_frame(mixture.d), [(0, 30)]

    def value(point: Array) -> float:
        return objective(e_step(rows, mixture.at(point), "centred", frame, pieces), mixture.at(point), prior)[0]

    np.testing.assert_allclose(mixture.at(at).coordinates(), at, atol=1e-12)
    found = gradient(at, e_step(rows, mixture, "centred", frame, pieces), mixture, prior)
    steps = 1e-5 * np.eye(len(at))
    wanted = [(value(at + step) - value(at - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(found, wanted, atol=1e-7)


def test_statistics_keep_what_is_outside_when_components_change() -> None:
    mixture = noisy(APART, ROWS)
    stats = e_step(ROWS, mixture, "products", identity_frame(2), [(0, len(ROWS))])
    repair = dropping(stats, 1)
    assert repair is not None
    for changed in (repair.on(stats), stats.about(stats.origin + 3), stats.scaled(2) - stats):
        assert changed.outside == pytest.approx(stats.outside)
        np.testing.assert_allclose(changed.beyond, stats.beyond)
        np.testing.assert_allclose(np.hstack(changed.totals()), np.hstack(stats.totals()), rtol=1e-9, atol=1e-6)
    following = m_step(repair.on(stats), Prior(np.zeros((2, 2, 2)), noise=mixture.noise))
    assert following.noise is not None
    assert following.noise.weight == pytest.approx(stats.outside / stats.weight)
    assert stats.without(stats).outside == 0


# --- algorithms ------------------------------------------------------------------------------------------------


def with_prior(run: Run) -> Run:
    """A run whose M-steps know the noise of its mixture."""
    return dataclasses.replace(run, prior=dataclasses.replace(run.prior, noise=run.state.mixture.noise))


class Noisy:
    """Runs with noise, and a prior of the weights of the others.

    The self-check of each lap, resumes to the same bits and threads are among what they keep.
    """

    algorithm: ClassVar[Algorithm]
    families: ClassVar[tuple[str, ...]] = ("full",)

    @pytest.fixture
    def rows(self, start: Mixture) -> Array:
        return contaminated(random_mixture(np.random.default_rng(9), start.covariance_type, 3, 3), 591)[0]

    @pytest.fixture
    def run(self, start: Mixture, rows: Array) -> Run:
        beginning = Beginning(3, PLAN.steps)
        run = run_of("run", self.algorithm, noisy(start, rows), frame_of_rows(start, rows), 0.0, beginning)
        prior = dataclasses.replace(with_prior(run).prior, concentration=3.0, weight=float(len(rows)))
        return dataclasses.replace(run, prior=prior)

    def test_the_noise_moves_and_its_box_stays(self, run: Run, rows: Array) -> None:
        ended = mixture_of(self.ended(run, rows))  # type: ignore[attr-defined]
        assert ended.noise is not None
        assert abs(ended.noise.weight - 0.2) > 1e-3
        assert ended.weights.sum() + ended.noise.weight == pytest.approx(1)
        assert ended.noise.log_density == Noise(0.2, rows.min(axis=0), rows.max(axis=0)).log_density


class TestBatchWithNoise(Noisy, AlgorithmTests):
    algorithm, max_iter, monotone = Batch(tol=0, max_iter=6), 6, True
    families = ("tied",)


class TestSquaremWithNoise(Noisy, AlgorithmTests):
    algorithm, max_iter, monotone = Squarem(Batch(tol=0, max_iter=9)), 9, True


class TestIncrementalWithNoise(Noisy, AlgorithmTests):
    algorithm, max_iter, monotone = Incremental(tol=0, max_iter=2), 2, True


class TestStochasticWithNoise(Noisy, AlgorithmTests):
    algorithm, max_iter = Stochastic(tol=0, max_iter=1), 1


class TestLbfgsWithNoise(Noisy, AlgorithmTests):
    algorithm, max_iter, monotone = Gradient(tol=0, max_iter=8), 8, True
    families = ("tied",)


class TestProjectedWithNoise(Noisy, AlgorithmTests):
    algorithm, max_iter, monotone = Gradient("projected", tol=0, max_iter=8), 8, True


class TestRiemannianWithNoise(Noisy, AlgorithmTests):
    algorithm, max_iter, monotone = Riemannian(tol=0, max_iter=8), 8, True


@pytest.mark.parametrize("algorithm", ["gradient", "riemannian", "incremental"])
def test_algorithms_end_in_one_place(model: GaussianMixture, algorithm: str) -> None:
    found = GaussianMixture(3, noise=True, random_state=0, algorithm=algorithm, tol=1e-7).fit(ROWS)
    assert found.noise_weight_ == pytest.approx(model.noise_weight_, abs=3e-3)
    np.testing.assert_allclose(found.means_[match(model, found)], model.means_, atol=0.05)


# --- starts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 16])
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_empty_places_are_where_the_noise_is(d: int, share: float) -> None:
    truth = random_mixture(np.random.default_rng(d), "full", 2, d, separation=4.0)
    rows, outlying = contaminated(truth, 2000, share=share)
    empty = in_empty_places(rows, Noise(0.1, rows.min(axis=0), rows.max(axis=0)))
    assert empty[~outlying].mean() < 0.1
    assert empty[outlying].mean() > (0.5 if d == 1 else 0.8)


def test_no_place_is_empty_where_there_is_no_box_or_hardly_a_row() -> None:
    for rows in (np.ones((50, 2)), np.random.default_rng(0).normal(size=(5, 2))):
        assert not in_empty_places(rows, Noise(0.1, rows.min(axis=0), rows.max(axis=0))).any()


def test_rows_go_to_the_nearest_that_has_a_component() -> None:
    points = np.array([[0.0, 0], [9, 9], [1, 0], [8, 9]])
    assert to_nearest(points, np.array([1, 0, -1, -1])).tolist() == [1, 0, 1, 0]


METHODS = ("k-means++", "random_from_data", "kmeans-whitened")


@pytest.mark.parametrize(
    ("covariance_type", "init_params"),
    [*((kind, "kmeans") for kind in FAMILIES), *(("full", name) for name in METHODS)],
)
def test_outliers_move_no_parameter(covariance_type: str, init_params: str) -> None:
    truth = random_mixture(np.random.default_rng(4), covariance_type, 3, 2, separation=6.0)
    rows, outlying = contaminated(truth, 2000, room=3.0)
    settings = {"covariance_type": covariance_type, "random_state": 0, "n_init": 3}
    found = GaussianMixture(3, noise=True, init_params=init_params, **settings).fit(rows)
    clean = GaussianMixture(3, **settings).fit(rows[~outlying])
    order = match(clean, found)
    deviations = np.sqrt(np.diagonal(clean.mixture_.dense_covariances(), axis1=1, axis2=2))
    assert np.all(np.abs(found.means_[order] - clean.means_) < 0.15 * deviations)
    np.testing.assert_allclose(found.weights_[order] / found.weights_.sum(), clean.weights_, atol=0.02)
    assert found.noise_weight_ == pytest.approx(1 / 11, abs=0.02)
    labels = found.predict(rows)
    assert ((labels == -1) == outlying).mean() > 0.95


def test_given_starts_leave_room_for_noise(model: GaussianMixture) -> None:
    given = {
        "weights_init": APART.weights,
        "means_init": APART.means,
        "precisions_init": np.linalg.inv(APART.covariances),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = GaussianMixture(3, noise=True, max_iter=0, **given).fit(ROWS)
        assert start.noise_weight_ == pytest.approx(0.1)
        np.testing.assert_allclose(start.weights_, 0.9 * APART.weights)
        again = GaussianMixture(3, noise=True, warm_start=True, random_state=0).fit(ROWS).set_params(max_iter=0)
        noise = again.noise_weight_
        assert again.fit(ROWS).noise_weight_ == pytest.approx(noise, abs=1e-12)
        again.set_params(noise=False).fit(ROWS)
    assert again.noise_weight_ == 0
    assert again.weights_.sum() == pytest.approx(1)


def test_moves_of_components_leave_the_noise_alone() -> None:
    """From a start with two components in one cluster and one that covers two."""
    means = np.array([[0.0, 0], [12, 0], [0, 12], [12, 12]])
    truth = Mixture("spherical", np.full(4, 0.25), means, np.ones(4))
    rows = contaminated(truth, 1600)[0]
    bad = np.array([[0.0, -0.5], [0.0, 0.5], [12, 0], [6, 12]])
    given = {"weights_init": np.full(4, 0.25), "means_init": bad, "precisions_init": np.array([1.0, 1, 1, 0.02])}
    settings = {"covariance_type": "spherical", "noise": True, "random_state": 0}
    found = [GaussianMixture(4, refine=refine, **settings, **given).fit(rows) for refine in (None, "split-merge")]
    assert found[1].score(rows) > found[0].score(rows) + 0.1
    np.testing.assert_allclose(found[1].means_[match(truth, found[1])], means, atol=0.3)
    assert found[1].noise_weight_ == pytest.approx(1 / 11, abs=0.02)


# --- what a fit gives ------------------------------------------------------------------------------------------


def test_predictions_are_those_of_the_formula(model: GaussianMixture) -> None:
    mixture = model.mixture_
    joint = reference.log_joint(ROWS, parameters_of(mixture))
    assert model.weights_.sum() + model.noise_weight_ == pytest.approx(1)
    np.testing.assert_allclose(model.score_samples(ROWS), reference.log_density(joint), rtol=1e-10)
    labels = joint.argmax(axis=0)
    np.testing.assert_array_equal(model.predict(ROWS), np.where(labels == 3, -1, labels))
    posterior = np.exp(joint - reference.log_density(joint)).T
    np.testing.assert_allclose(model.predict_proba(ROWS), posterior[:, :3], atol=1e-10)
    assert posterior[:, 3].max() > 0.99
    far = np.full((1, 2), 1e6)
    assert model.predict(far).tolist() == [-1]
    assert model.score_samples(far)[0] == pytest.approx(np.log(model.noise_weight_) + mixture.noise.log_density)
    likelihood, n = model.score(ROWS) * len(ROWS), len(ROWS)
    assert model.bic(ROWS) == pytest.approx(-2 * likelihood + (2 + 1 + 6 + 9) * np.log(n))
    assert model.icl(ROWS) == pytest.approx(model.bic(ROWS) + 2 * entr(posterior).sum())
    assert model.icl(ROWS, sample_weight=np.full(n, 2.0)) > model.icl(ROWS)
    lazy = dask.array.from_array(ROWS, chunks=(700, 2))
    assert model.predict(lazy).compute().tolist() == model.predict(ROWS).tolist()
    assert model.predict_proba(lazy).compute().tobytes() == model.predict_proba(ROWS).tobytes()
    with pytest.raises(ValueError, match="Input contains NaN"):
        model.predict(np.array([[np.nan, 0.0]]))


def test_samples_have_noise_in_the_box(model: GaussianMixture) -> None:
    rows, labels = model.sample(20_000)
    noise = rows[labels == -1]
    assert len(noise) / 20_000 == pytest.approx(model.noise_weight_, abs=0.01)
    assert np.all((noise >= ROWS.min(axis=0)) & (noise <= ROWS.max(axis=0)))
    np.testing.assert_allclose(noise.var(axis=0), np.ptp(ROWS, axis=0) ** 2 / 12, rtol=0.1)
    np.testing.assert_allclose([(labels == k).mean() for k in range(3)], model.weights_, atol=0.02)


def test_marginals_and_conditionals_agree_with_the_joint_density(model: GaussianMixture) -> None:
    """p(a, b) = p(b) p(a | b), inside the box and with noise in all of them."""
    b, a = 0.7, np.linspace(-2, 2, 9)[:, None]
    marginal, conditional = model.marginal([1]), model.conditional({1: b})
    joint = model.score_samples(np.column_stack([a, np.full(9, b)]))
    np.testing.assert_allclose(conditional.score_samples(a) + marginal.score_samples([[b]]), joint, rtol=1e-10)
    assert conditional.noise
    assert conditional.noise_weight_ == pytest.approx(1 - marginal.predict_proba([[b]]).sum())
    order = model.sorted()
    assert order.noise_weight_ == model.noise_weight_
    np.testing.assert_allclose(order.score_samples(ROWS), model.score_samples(ROWS))


def test_what_knows_no_noise_refuses_it(model: GaussianMixture) -> None:
    with pytest.raises(ValueError, match="scikit-learn knows no noise"):
        model.to_sklearn()
    with pytest.raises(ValueError, match="noise=True: partial_fit"):
        GaussianMixture(2, noise=True).partial_fit(ROWS)
    with pytest.raises(ValueError, match="The 'noise' parameter of GaussianMixture must be"):
        GaussianMixture(2, noise="much").fit(ROWS)
    with pytest.raises(ValueError, match="noise=True leaves the few rows"):
        GaussianMixture(2, noise=True, init_params="k-means||").fit(ROWS)


def test_files_keep_the_noise(model: GaussianMixture, tmp_path: Path) -> None:
    path = tmp_path / "m.gmm"
    model.save(path)
    loaded = GaussianMixture.load(path)
    assert loaded.noise
    assert loaded.mixture_.digest == model.mixture_.digest
    assert loaded.score_samples(ROWS).tobytes() == model.score_samples(ROWS).tobytes()
    assert header(path)["schema"] == 2
    model.conditional({0: 1.0}).save(path)
    assert GaussianMixture.load(path).noise_weight_ == model.conditional({0: 1.0}).noise_weight_
    GaussianMixture(2, random_state=0).fit(ROWS).save(path)
    assert header(path)["schema"] == 1
    assert "noise" not in GaussianMixture.load(path).provenance_["settings"]


def header(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    found: dict[str, Any] = json.loads(content[48 : 48 + int.from_bytes(content[8:16], "little")])
    return found


@pytest.mark.parametrize(
    "broken", [{"weight": 1.5}, {"low": np.full(2, 1e9)}, {"low": np.zeros(3)}, {"low": np.zeros(2, np.float32)}]
)
def test_a_file_of_noise_that_makes_no_sense_is_refused(
    model: GaussianMixture, broken: dict[str, Any], tmp_path: Path
) -> None:
    noise = dataclasses.replace(model.mixture_.noise, **broken)
    bad = GaussianMixture.load(saved(model, tmp_path))
    bad.mixture_ = dataclasses.replace(bad.mixture_, noise=noise)
    with pytest.raises(FileError, match="noise"):
        GaussianMixture.load(saved(bad, tmp_path))


def saved(model: GaussianMixture, folder: Path) -> Path:
    model.save(folder / "m.gmm")
    return folder / "m.gmm"


def test_statistics_add_and_make_the_model_of_one_more_pass(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = {"noise": True, "random_state": 0, "tol": 0}
        before, after = (GaussianMixture(3, max_iter=n, **settings).fit(ROWS) for n in (3, 4))
    before.statistics(ROWS[:1000]).save(tmp_path / "s")
    total = Statistics.load(tmp_path / "s") + before.statistics(ROWS[1000:])
    found = GaussianMixture.from_statistics(total)
    assert found.noise_weight_ == pytest.approx(after.noise_weight_, rel=1e-9)
    np.testing.assert_allclose(found.means_, after.means_, rtol=1e-9)
    assert (total - before.statistics(ROWS)).stats.outside == 0


def test_outliers_are_no_components_of_what_is_selected() -> None:
    rows = contaminated(APART, 1500)[0]
    found = {noise: select(rows, [2, 3, 4, 5], random_state=0, n_init=1, noise=noise) for noise in (False, True)}
    assert found[False].best_.n_components > 3
    assert found[True].best_.n_components == 3
    assert found[True].best_.noise_weight_ == pytest.approx(1 / 11, abs=0.02)
    (row,) = (row for row in found[True].table_ if row["components"] == 3)
    assert row["parameters"] == found[True].best_.mixture_.n_parameters


# --- out of core -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["em", Stochastic(tol=0, max_iter=2, mini_batches=8)])
def test_fits_out_of_core_have_the_same_bits_and_resume(algorithm: Any, tmp_path: Path) -> None:
    """Of rows that do not fit in the sample, with weights, from any scheduler and after an interruption."""
    rows, outlying = contaminated(APART, 6000)
    weights = np.random.default_rng(0).integers(0, 3, len(rows)).astype(float)
    zarr.create_array(str(tmp_path / "rows"), data=rows, chunks=(1000, 2))
    settings = {"noise": True, "random_state": 0, "sample_rows": 2000, "algorithm": algorithm}

    class Stopped(Exception):
        pass

    def stop(event: Event) -> None:
        if isinstance(event, PassDone):
            raise Stopped

    def fit(**options: Any) -> GaussianMixture:
        fit = {name: options.pop(name) for name in ("scheduler", "resume") if name in options}
        return GaussianMixture(3, **settings, **options).fit(str(tmp_path / "rows"), sample_weight=weights, **fit)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit(scheduler="synchronous")
        with pytest.raises(Stopped):
            fit(checkpoint=tmp_path / "c", callbacks=(stop,))
        resumed = fit(checkpoint=tmp_path / "c", resume=True)
    assert resumed.mixture_.digest == found.mixture_.digest
    assert found.noise_weight_ == pytest.approx(weights[outlying].sum() / weights.sum(), abs=0.02)
    assert ((found.predict(rows) == -1) == outlying).mean() > 0.95
    other = GaussianMixture(3, **{**settings, "noise": False}, checkpoint=tmp_path / "c")
    with pytest.raises(ValueError, match="noise: True then, None now"):
        other.fit(str(tmp_path / "rows"), sample_weight=weights, resume=True)


def test_the_command_line(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    run = CliRunner().invoke

    def done(*options: str) -> str:
        result = run(main, [str(option) for option in options], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    model = tmp_path / "m.gmm"
    fit = done("fit", tmp_path / "rows.npy", "-k", 3, "--seed", 0, "--noise", "-o", model, "--log-format", "plain")
    assert "noise" in fit
    assert "full covariances, and noise" in done("inspect", model)
    done("predict", tmp_path / "rows.npy", "-m", model, "-o", tmp_path / "out.zarr", "--what", "labels,proba")
    labels = zarr.open_array(tmp_path / "out.zarr" / "labels")
    assert labels.dtype == np.int8
    assert (labels[:] == GaussianMixture.load(model).predict(ROWS)).all()
    done("sample", "-m", model, "-n", 500, "-o", tmp_path / "drawn.npy", "--labels", tmp_path / "labels.npy")
    assert set(np.load(tmp_path / "labels.npy")) == {-1, 0, 1, 2}
    done("update", tmp_path / "rows.npy", "-m", model, "-o", tmp_path / "updated.gmm")
    assert GaussianMixture.load(tmp_path / "updated.gmm").noise_weight_ > 0
