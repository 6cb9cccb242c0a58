"""Statistics: they add, whatever the layout of the rows, and only where that means something."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmmdask.kernels import KERNELS
from gmmdask.stats import Layout, Stats
from gmmdask.testing import reference
from gmmdask.testing.passes import e_step, identity_frame, packed, parameters_of
from gmmdask.testing.strategies import LAW, covariance_types, cuts, generators, mixtures

LAYOUT = Layout("full", 3, 2, "frame")


@LAW
@given(data=st.data(), covariance_type=covariance_types, kernel=st.sampled_from(sorted(KERNELS)), rng=generators)
def test_other_chunk_layouts_give_the_same_statistics(
    data: st.DataObject, covariance_type: str, kernel: str, rng: np.random.Generator
) -> None:
    """Promise P3, with Σ w r |x||x|ᵀ itself as the measure."""
    mixture = data.draw(mixtures(covariance_type))
    rows, frame = mixture.sample(300, rng)[0], identity_frame(mixture.d)
    one, other = (e_step(rows, mixture, kernel, frame, data.draw(cuts(len(rows)))) for _ in range(2))
    joint = reference.log_joint(rows, parameters_of(mixture))
    resp = np.exp(joint - reference.log_density(joint))
    sizes = [np.abs(rows - origin) for origin in one.origin]
    second = np.array([(size * r[:, None]).T @ size for size, r in zip(sizes, resp, strict=True)])
    first = np.array([r @ size for size, r in zip(sizes, resp, strict=True)])
    assert one.weight == other.weight == 300
    assert np.all(np.abs(one.mass - other.mass) <= 1e-12 * resp.sum(axis=1))
    assert np.all(np.abs(one.first - other.first) <= 1e-12 * first)
    assert np.all(np.abs(one.second - other.second) <= 1e-12 * packed(mixture.family, second))
    assert abs(one.log_likelihood - other.log_likelihood) <= 1e-12 * np.abs(reference.log_density(joint)).sum()


@LAW
@given(covariance_type=covariance_types, n_components=st.integers(1, 5), d=st.integers(1, 5), rng=generators)
def test_the_parts_of_the_vector_do_not_overlap(
    covariance_type: str, n_components: int, d: int, rng: np.random.Generator
) -> None:
    stats = Stats.zero(Layout(covariance_type, n_components, d, "frame"))
    for part in (stats.mass, stats.first, stats.second):
        part += 1
    assert stats.vector.tolist() == [0.0] * 4 + [1.0] * (stats.layout.size - 4)
    stats.vector[:4] = rng.random(4)
    scalars = (stats.weight, stats.outside, stats.log_likelihood, stats.entropy)
    assert scalars == tuple(stats.vector[:4])


def test_addition_is_the_addition_of_vectors() -> None:
    a, b = Stats.zero(LAYOUT), Stats.zero(LAYOUT)
    a.vector[:], b.vector[:] = np.arange(LAYOUT.size), 0.1
    before = a.vector.copy()
    np.testing.assert_array_equal((a + b).vector, before + 0.1)
    np.testing.assert_array_equal(a.vector, before)


@pytest.mark.parametrize(
    "other", [{"covariance_type": "diag"}, {"n_components": 4}, {"d": 3}, {"frame": "another"}], ids=str
)
def test_other_layouts_do_not_add(other: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="different layouts do not add"):
        Stats.zero(LAYOUT) + Stats.zero(dataclasses.replace(LAYOUT, **other))


def test_other_origins_do_not_add() -> None:
    there = Stats.zero(LAYOUT, np.ones((3, 2)))
    with pytest.raises(ValueError, match="different origins do not add"):
        Stats.zero(LAYOUT) + there
    np.testing.assert_array_equal((Stats.zero(LAYOUT) + there.about(np.zeros((3, 2)))).vector, 0)
