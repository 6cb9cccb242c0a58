"""k-means||: rounds that add, and starts from all rows."""

import warnings
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from gmmdask import GaussianMixture
from gmmdask.agglomerate import Clusters, merged
from gmmdask.covariance import FAMILIES
from gmmdask.estep import assigned_stats
from gmmdask.frame import Frame
from gmmdask.moments import Moments
from gmmdask.outcome import CandidatesDrawn, CentresFound, Event
from gmmdask.sampling import row_keys, uniforms
from gmmdask.scalable import FACTOR, Assigned, Joining, Nearest, Round, most_candidates
from gmmdask.stats import Layout, Stats
from gmmdask.task import Block
from gmmdask.testing.passes import packed
from gmmdask.testing.reference import DENSE, OWN_SHAPE
from gmmdask.testing.strategies import LAW, covariance_types, cuts, generators, row_weights

Pieces = list[tuple[int, int]]


def frame_of(rows: np.ndarray, covariance_type: str = "full") -> Frame:
    moments = Moments.of(rows)
    return Frame.of(FAMILIES[covariance_type], moments.mean, moments.covariance)


def blocks_of(rows: np.ndarray, weights: np.ndarray | None, pieces: Pieces) -> list[Block]:
    """As a task would cut them: rows without weight are left out."""
    found = []
    for start, stop in pieces:
        if weights is None or weights[start:stop].all():
            found.append(Block(rows[start:stop], None if weights is None else weights[start:stop], start))
        elif len(kept := np.flatnonzero(weights[start:stop])):
            found.append(Block(rows[start:stop][kept], weights[start:stop][kept], start, kept))
    return found


def drawn(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Rows in some clusters, with repeated ones among them."""
    rows = rng.normal(size=(n, d)) + 20 * rng.integers(0, 3, (n, 1))
    return rows[np.where(rng.random(n) < 0.2, rng.integers(0, n, n), np.arange(n))]


def dense(x: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Squared distances (n, m)."""
    return ((x[:, None] - points[None]) ** 2).sum(axis=2)


@LAW
@given(rng=generators, d=st.integers(1, 4), m=st.integers(1, 30), n=st.integers(1, 200))
def test_nearest_is_what_all_distances_say(rng: np.random.Generator, d: int, m: int, n: int) -> None:
    rows = drawn(rng, max(n, d + 2), d)
    frame = frame_of(rows)
    x, points = frame.points_in(rows), frame.points_in(rows[rng.integers(0, len(rows), m)])
    nearest = Nearest(frame, points, len(rows))
    nearest.step = 17  # in several tiles
    labels, z, squares = nearest(rows)
    wanted = dense(x, points)
    np.testing.assert_allclose(wanted[np.arange(len(x)), labels], wanted.min(axis=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(squares, wanted.min(axis=1), rtol=1e-9, atol=1e-20)
    np.testing.assert_allclose(z, (x - points[labels]).T, rtol=1e-9, atol=1e-12)
    assert not squares[wanted.min(axis=1) < 1e-25].any()  # a row that is a candidate does not join again


@LAW
@given(data=st.data(), rng=generators, seed=st.integers(0, 2**32), weighed=st.booleans(), k=st.integers(1, 8))
def test_those_join_who_should_however_rows_are_cut(
    data: st.DataObject, rng: np.random.Generator, seed: int, weighed: bool, k: int
) -> None:
    n, d = 150, 2
    rows, weights = drawn(rng, n, d), data.draw(row_weights(n)) if weighed else None
    frame = frame_of(rows)
    candidates = frame.points_in(rows[:3])
    pull = dense(frame.points_in(rows), candidates).min(axis=1) * (1.0 if weights is None else weights)
    pull[pull < 1e-20] = 0
    share = FACTOR * k * pull / pull.sum()
    wanted = np.flatnonzero(uniforms(row_keys(seed, 0, n)) < share)
    work = Round(frame, candidates, seed, FACTOR * k, n)
    pieces = blocks_of(rows, weights, data.draw(cuts(n)))
    parts = [work(pieces[i : i + 2]) for i in range(0, len(pieces), 2)]
    found: Joining = reduce(add, data.draw(st.permutations(parts)))
    np.testing.assert_array_equal(np.sort(found.sample.numbers), wanted)
    np.testing.assert_array_equal(found.sample.rows, rows[found.sample.numbers])
    assert found.cost == pytest.approx(pull.sum(), rel=1e-10)


def test_rows_join_as_often_as_they_should() -> None:
    """Over 2,000 rounds, against min(1, 2K w D²/φ)."""
    rng = np.random.default_rng(0)
    rows, weights = rng.standard_t(1.5, size=(60, 2)), rng.gamma(0.7, size=60)
    frame = frame_of(rows)
    candidates = frame.points_in(rows[:1])
    pull = weights * dense(frame.points_in(rows), candidates)[:, 0]
    share, joined = np.minimum(1, 6 * pull / pull.sum()), np.zeros(60)
    for seed in range(2000):
        joined[Round(frame, candidates, seed, 6.0, 60)([Block(rows, weights, 0)]).sample.numbers] += 1
    error = np.sqrt(2000 * share * (1 - share)) + 1e-9
    assert np.abs((joined - 2000 * share) / error).max() < 4
    assert (share == 1).any()


@LAW
@given(data=st.data(), rng=generators, covariance_type=covariance_types, weighed=st.booleans(), m=st.integers(1, 12))
def test_statistics_of_rows_by_their_nearest_point(
    data: st.DataObject, rng: np.random.Generator, covariance_type: str, weighed: bool, m: int
) -> None:
    n, d = 120, 3
    rows, weights = drawn(rng, n, d), data.draw(row_weights(n)) if weighed else None
    frame = frame_of(rows, covariance_type)
    x, points = frame.points_in(rows), frame.points_in(rows[:m])
    pieces = blocks_of(rows, weights, data.draw(cuts(n)))
    work = Assigned(covariance_type, frame, points, n)
    stats: Stats = reduce(add, [work([piece]) for piece in pieces])
    given_weights = np.ones(n) if weights is None else weights
    # the first of equal points, which rounding might tell apart
    labels = (dense(x, points) <= dense(x, points).min(axis=1)[:, None] + 1e-18).argmax(axis=1)
    groups = (dense(points, points) < 1e-18).argmax(axis=1)
    stats, z = stats.grouped(groups, m).about(points), x - points[labels]
    resp = (labels == np.arange(m)[:, None]) * given_weights
    np.testing.assert_allclose(stats.mass, resp.sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(stats.first, resp @ z, atol=1e-9)
    second = np.array([(z * r[:, None]).T @ z for r in resp])
    np.testing.assert_allclose(stats.second, packed(stats.layout.family, second), atol=1e-8)
    assert stats.weight == pytest.approx(given_weights.sum())


@LAW
@given(rng=generators, covariance_type=covariance_types, n=st.integers(1, 4))
def test_groups_of_components_have_the_statistics_of_their_rows(
    rng: np.random.Generator, covariance_type: str, n: int
) -> None:
    rows = drawn(rng, 90, 3)
    frame, labels, groups = frame_of(rows, covariance_type), rng.integers(0, 7, 90), rng.integers(0, n, 7)
    layouts = [Layout(covariance_type, size, 3, frame.digest) for size in (7, n)]
    found = assigned_stats(layouts[0], frame, rows, labels).grouped(groups, n)
    wanted = assigned_stats(layouts[1], frame, rows, groups[labels])
    np.testing.assert_allclose(found.about(wanted.origin).vector, wanted.vector, rtol=1e-10, atol=1e-9)
    used = found.mass > 0
    np.testing.assert_allclose(found.origin[used], wanted.origin[used], atol=1e-12)
    np.testing.assert_allclose(found.first, 0, atol=1e-10)


def rare_rows(seed: int, n: int = 20_000, each: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Two common clusters, and three of a few rows that are far away: rows (n, 3), middles (3, 3)."""
    rng = np.random.default_rng(seed)
    far = rng.normal(size=(3, 3))
    far *= 200 / np.linalg.norm(far, axis=1)[:, None]
    middles = np.concatenate([[[-4.0, 0, 0], [4.0, 0, 0]], far])
    of = rng.permutation(np.concatenate([rng.integers(0, 2, n - 3 * each), 2 + np.repeat(np.arange(3), each)]))
    return middles[of] + rng.normal(size=(n, 3)), far


def fit(rows: Any, k: int = 5, **settings: Any) -> GaussianMixture:
    settings = {"init_params": "k-means||", "sample_rows": 400, "random_state": 1, **settings}
    return GaussianMixture(k, **settings).fit(rows)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_rare_clusters_are_found_in_six_passes(covariance_type: str) -> None:
    rows, far = rare_rows(seed=3)
    told: list[Event] = []
    model = fit(rows, covariance_type=covariance_type, callbacks=(told.append,))
    distances = np.linalg.norm(far[:, None] - model.means_[None], axis=2)
    assert (distances.min(axis=1) < 2).all()
    if covariance_type != "tied":
        np.testing.assert_allclose(model.weights_[distances.argmin(axis=1)], 25 / len(rows), rtol=0.05)
    (made,) = (event for event in told if isinstance(event, CentresFound))
    rounds = [event for event in told if isinstance(event, CandidatesDrawn)]
    assert made.passes == 6
    assert [event.round for event in rounds] == [1, 2, 3, 4, 5]
    costs = [event.cost for event in rounds]
    assert costs == sorted(costs, reverse=True)
    assert 5 < made.candidates == rounds[-1].candidates <= most_candidates(5)
    assert "start 6 passes" in model.outcome_.took


def test_rare_clusters_that_are_near_each_other_are_kept_apart() -> None:
    """k-means alone would rather cut one of the common clusters: 12,000 rows in it outweigh 25 that are 40 away."""
    rng = np.random.default_rng(0)
    middles = np.array([[0.0, 0, 0], [0, 0, 7], [300, 0, 0], [300, 40, 0]])
    of = rng.permutation(np.concatenate([rng.integers(0, 2, 24_000), np.repeat([2, 3], 15)]))
    model = fit(middles[of] + rng.normal(size=(len(of), 3)), 4)
    assert (np.linalg.norm(middles[:, None] - model.means_[None], axis=2).min(axis=1) < 2).all()


@LAW
@given(rng=generators, covariance_type=covariance_types, d=st.integers(1, 4), again=st.booleans())
def test_mergers_cost_what_the_likelihood_falls_by(
    rng: np.random.Generator, covariance_type: str, d: int, again: bool
) -> None:
    """By dense matrices: Σ N log N/W - ½ N log|Σ|, each Σ drawn to the mean one by d + 1 rows (a shared one is not)."""
    k, rows = 6, rng.normal(size=(80, d))
    labels = np.concatenate([np.arange(k), rng.integers(0, k, 80 - k)])
    rows += 2 * rng.normal(size=(k, d))[labels]
    frame = frame_of(rows, covariance_type)
    x, family = frame.points_in(rows), FAMILIES[covariance_type]
    clusters = Clusters(assigned_stats(Layout(covariance_type, k, d, frame.digest), frame, rows, labels))

    def scatter(z: np.ndarray) -> np.ndarray:
        return (z - z.mean(axis=0)).T @ (z - z.mean(axis=0))

    within = sum(scatter(x[labels == j]) for j in range(k)) / len(x)

    def log_det(matrix: np.ndarray) -> float:
        own = OWN_SHAPE[covariance_type](np.ones(1), matrix[None])
        return float(np.linalg.slogdet(DENSE[covariance_type](own, 1, d)[0])[1])

    def height(labels: np.ndarray) -> float:
        parts = [x[labels == j] for j in np.unique(labels)]
        masses = sum(len(part) * np.log(len(part) / len(x)) for part in parts)
        if family.shared:
            return masses - 0.5 * len(x) * log_det(sum(scatter(part) for part in parts) / len(x))
        drawn_to = [(scatter(part) + (d + 1) * within) / (len(part) + d + 1) for part in parts]
        return masses - sum(0.5 * len(part) * log_det(own) for part, own in zip(parts, drawn_to, strict=True))

    if again and not family.shared:  # a shared covariance is taken as it was before the first
        clusters.merge(0, 5)
        labels = np.where(labels == 5, 0, labels)
    wanted = [height(labels) - height(np.where(labels == j, 0, labels)) for j in range(1, 5)]
    np.testing.assert_allclose(clusters.costs(0, np.arange(1, 5)), wanted, rtol=1e-8, atol=1e-8)


def test_mergers_undo_cuts() -> None:
    """Three clusters, each cut in two: what belongs together comes together, whatever the family."""
    rng = np.random.default_rng(0)
    middles = np.repeat([[0.0, 0], [8, 0], [0, 8]], 2, axis=0)
    labels = rng.integers(0, 6, 900)
    rows = middles[labels] + rng.normal(size=(900, 2)) * [1, 0.5]
    labels = 2 * (labels // 2) + (rows[:, 0] > middles[labels, 0])
    for covariance_type in FAMILIES:
        frame = frame_of(rows, covariance_type)
        stats = assigned_stats(Layout(covariance_type, 6, 2, frame.digest), frame, rows, labels)
        groups = merged(stats, 3)
        assert groups.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_start_on_the_sample_misses_them() -> None:
    rows, far = rare_rows(seed=3)
    model = fit(rows, init_params="kmeans")
    assert (np.linalg.norm(far[:, None] - model.means_[None], axis=2).min(axis=1) > 10).any()


def test_the_start_is_the_same_however_rows_are_stored(tmp_path: Path) -> None:
    rows, _ = rare_rows(seed=4)
    weights = np.random.default_rng(0).integers(0, 3, len(rows)).astype(float)
    models = []
    for chunk in (700, 5000):
        path = tmp_path / f"{chunk}.zarr"
        zarr.create_array(path, data=rows, chunks=(chunk, 3))
        models.append(GaussianMixture(5, init_params="k-means||", sample_rows=400, random_state=2, max_iter=2, tol=0))
        models[-1].fit(path, sample_weight=weights)
    np.testing.assert_allclose(models[0].means_, models[1].means_, atol=1e-8)
    np.testing.assert_allclose(models[0].weights_, models[1].weights_, atol=1e-10)


def test_whole_weights_are_repeated_rows() -> None:
    """In their start: who joins is another draw, so rows are in clusters that every draw finds."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 2)) + np.array([[0, 0], [60, 0], [0, 60]])[np.arange(300) % 3]
    counts = rng.integers(1, 4, 300)
    settings = {"init_params": "k-means||", "max_iter": 0, "random_state": 0}
    found = GaussianMixture(3, **settings).fit(rows, sample_weight=counts).sorted()
    wanted = GaussianMixture(3, **settings).fit(np.repeat(rows, counts, axis=0)).sorted()
    np.testing.assert_allclose(found.means_, wanted.means_, atol=1e-9)
    np.testing.assert_allclose(found.weights_, wanted.weights_, atol=1e-9)


@pytest.mark.parametrize("sample_rows", [400, 10])
@pytest.mark.parametrize("k", [1, 4, 7])
def test_few_different_rows(sample_rows: int, k: int) -> None:
    """Five of them, often repeated: after some rounds all rows are candidates, and clusters may be empty."""
    rows = np.random.default_rng(0).normal(size=(5, 2))[np.arange(300) % 5]
    told: list[Event] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = fit(rows, k, sample_rows=sample_rows, max_iter=3, callbacks=(told.append,))
    assert np.isfinite(model.means_).all()
    assert model.weights_.sum() == pytest.approx(1)
    assert np.isfinite(model.score(rows))
    if sample_rows == 10:
        (made,) = (event for event in told if isinstance(event, CentresFound))
        assert made.passes <= 6
        assert made.candidates <= most_candidates(k)


def test_more_starts_where_all_rows_are_in_memory_are_other_draws() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 3))
    told: list[Event] = []
    fit(rows, 6, sample_rows=None, n_init=3, max_iter=1, tol=0, callbacks=(told.append,))
    bounds = {event.run: event.lower_bound for event in told if type(event).__name__ == "PassDone"}
    assert len(bounds) == len(set(bounds.values())) == 3


def test_given_parameters_take_their_place() -> None:
    rows, _ = rare_rows(seed=4, n=3000)
    weights = np.full(5, 0.2)
    model = fit(rows, weights_init=weights, max_iter=0)
    np.testing.assert_array_equal(model.weights_, weights)
    means = rows[:5]
    covariances = np.array([np.eye(3)] * 5)
    told: list[Event] = []
    model = fit(rows, weights_init=weights, means_init=means, precisions_init=covariances, callbacks=(told.append,))
    assert not any(isinstance(event, CandidatesDrawn) for event in told)  # nothing is left to be found


def test_a_component_of_one_row_does_not_end_a_fit_without_regularisation() -> None:
    rows, _ = rare_rows(seed=5, n=5000, each=1)
    model = fit(rows, 6, reg_covar=0, max_iter=2, tol=0)
    assert np.isfinite(model.lower_bound_)


class Interruption(Exception):
    pass


def test_interrupted_in_its_rounds_it_begins_anew_and_ends_in_the_same_bits(tmp_path: Path) -> None:
    rows, _ = rare_rows(seed=6, n=5000)

    def interrupt(event: Event) -> None:
        if isinstance(event, CandidatesDrawn) and event.round == 3:
            raise Interruption

    path = tmp_path / "fit.ckpt"
    settings = {"max_iter": 3, "tol": 0, "random_state": None}
    np.random.seed(0)  # noqa: NPY002 - what random_state=None draws from
    whole = fit(rows, **settings)
    np.random.seed(0)  # noqa: NPY002
    with pytest.raises(Interruption):
        fit(rows, **settings, checkpoint=path, callbacks=(interrupt,))
    model = GaussianMixture(5, init_params="k-means||", sample_rows=400, checkpoint=path, **settings)
    model.fit(rows, resume=True)
    assert model.means_.tobytes() == whole.means_.tobytes()
    assert model.covariances_.tobytes() == whole.covariances_.tobytes()


def test_streams_are_told_to_start_otherwise() -> None:
    model = GaussianMixture(2, init_params="k-means||")
    with pytest.raises(ValueError, match=r"reads all rows several times.*Choose 'kmeans'"):
        model.partial_fit(np.zeros((10, 2)))


def test_moves_on_a_sample_are_refused_with_it() -> None:
    with pytest.raises(ValueError, match=r"no row of the rare clusters.*Unset one"):
        fit(np.zeros((10, 2)), 2, refine="split-merge")
