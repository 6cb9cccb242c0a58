"""The compiled kernel: what is its own beside the contract that all kernels meet in `FamilyTests`."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import numpy as np
import pytest

from gmmdask import GaussianMixture, compiled
from gmmdask.algorithms import Batch
from gmmdask.compiled import MissingKernel, Tiles, fast_kernel, importable
from gmmdask.covariance import FAMILIES
from gmmdask.estep import EStep, ESteps, Sums, available
from gmmdask.execution import one_thread
from gmmdask.frame import Frame
from gmmdask.kernels import kernel_for
from gmmdask.outcome import Event, KernelReady
from gmmdask.synthetic import random_mixture
from gmmdask.task import Block

here = pytest.mark.skipif(not importable(), reason="Numba is not installed")


def sums(rows: np.ndarray, k: int, covariance_type: str, *kernels: str, weights: np.ndarray | None = None) -> Sums:
    """Statistics of two blocks by each of the kernels, in one pass, under a mixture that knows no row."""
    mixture = random_mixture(k, rows.shape[1], covariance_type, seed=0)
    frame = Frame.of(mixture.family, *mixture.moments())
    step = frame.mixture_in(mixture)
    at = 1 + 2 * len(rows) // 3
    blocks = [Block(rows[s], None if weights is None else weights[s], 0) for s in (slice(at), slice(at, None))]
    with one_thread():
        return ESteps(tuple((frame, EStep(step, kernel)) for kernel in kernels), at)(blocks)


def sample(n: int, d: int, k: int, covariance_type: str = "full") -> np.ndarray:
    return random_mixture(k, d, covariance_type, seed=0).sample(n, np.random.default_rng(0))[0]


def found_bits(rows: np.ndarray, covariance_type: str = "full", k: int = 5) -> bytes:
    return sums(rows, k, covariance_type, "compiled").items[0].vector.tobytes()


def in_company(rows: np.ndarray, covariance_type: str) -> Sums:
    """Statistics under the mixture of `found_bits`, which shares its pass with two others of its frame."""
    mixtures = [random_mixture(5, rows.shape[1], covariance_type, seed) for seed in (1, 0, 2)]
    frame = Frame.of(mixtures[1].family, *mixtures[1].moments())
    at = 1 + 2 * len(rows) // 3
    blocks = [Block(rows[s], None, 0) for s in (slice(at), slice(at, None))]
    with one_thread():
        return ESteps(tuple((frame, EStep(frame.mixture_in(m), "compiled")) for m in mixtures), at)(blocks)


# --- elementary functions --------------------------------------------------------------------------------------


def ulps(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest error in units of the last place."""
    return float(np.max(np.abs(found - wanted) / np.spacing(np.abs(wanted).astype(np.float64))))


@here
def test_exponentials_and_logarithms_are_good_to_the_last_places() -> None:
    sweep, rng = compiled.loaded(), np.random.default_rng(0)
    x = np.concatenate([[0.0, -0.0, -1e-300, -99.999], -100 * rng.random(20_000), -(10 ** rng.uniform(-12, 0, 20_000))])
    assert ulps(np.array([sweep.exp(value) for value in x]), np.exp(x.astype(np.longdouble))) < 1.5
    assert sweep.exp(0.0) == 1.0
    y = np.concatenate([1 + 300 * rng.random(20_000), 1 + 10 ** rng.uniform(-12, 0, 20_000), [2.0, 0.5, 1e-40]])
    assert ulps(np.array([sweep.log(value) for value in y]), np.log(y.astype(np.longdouble))) < 3
    assert sweep.log(1.0) == 0.0
    assert np.isnan([sweep.exp(np.nan), sweep.log(np.nan)]).all()


# --- the same as NumPy's ---------------------------------------------------------------------------------------


@here
@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 8, 700), (1, 70, 100), (20, 3, 999), (9, 300, 300), (33, 40, 500)])
@pytest.mark.parametrize(("product", "kept"), [(None, None), (60_000, None), (60_000, 0)])
def test_panels_and_tails_add_up_to_what_numpy_finds(
    monkeypatch: pytest.MonkeyPatch,
    covariance_type: str,
    shape: tuple[int, int, int],
    product: int | None,
    kept: int | None,
) -> None:
    """Shapes (d, K, n) with one panel or several, with features kept or formed twice."""
    d, k, n = shape
    if product is not None:
        monkeypatch.setattr(compiled, "PRODUCT_SIZE", product)
    if kept is not None:
        monkeypatch.setattr(compiled, "KEPT_BYTES", kept)
    weights = np.random.default_rng(1).uniform(0, 3, n)
    rows = sample(n, d, k, covariance_type)
    found, wanted = sums(rows, k, covariance_type, "compiled", "products", weights=weights).items
    scale = np.abs(wanted.vector).max()
    np.testing.assert_allclose(found.vector, wanted.vector, rtol=1e-9, atol=1e-11 * scale)


def test_tiles_take_every_way_that_is_tested() -> None:
    """The shapes above would test nothing if the tiles were cut otherwise."""
    small, large, many = (Tiles(FAMILIES["full"], k, d, 16384) for d, k in ((2, 8), (128, 32), (16, 20_000)))
    assert (small.panel > small.features, small.kept) == (True, small.features)
    assert large.panel == large.kept < large.features
    assert (small.rows, large.rows, many.rows) == (256, 128, 64)
    assert many.panel == 256


# --- the same bits ---------------------------------------------------------------------------------------------


@here
@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_bits_know_nothing_of_memory_threads_or_company(covariance_type: str) -> None:
    rows = sample(3001, 7, 5)
    wanted = found_bits(rows, covariance_type)
    for shift in range(1, 8):
        room = np.empty(rows.size + 8)[shift : shift + rows.size].reshape(rows.shape)
        room[:] = rows
        assert found_bits(room, covariance_type) == wanted
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(lambda _: found_bits(rows, covariance_type), range(6))) == {wanted}
    together = sums(rows, 5, covariance_type, "products", "compiled", "centred", "compiled")
    assert [together.items[i].vector.tobytes() for i in (1, 3)] == [wanted] * 2
    among = in_company(rows, covariance_type)
    assert among.items[1].vector.tobytes() == wanted
    alone = sums(rows, 5, covariance_type, "products").items[0]
    assert together.items[0].vector.tobytes() == alone.vector.tobytes()


@here
def test_rows_of_any_layout_and_type_are_taken_as_they_are() -> None:
    rows = sample(500, 6, 5).astype(np.float32)
    wanted = found_bits(rows)
    wide, odd, fixed = np.zeros((500, 9), np.float32), np.empty(rows.nbytes + 1, np.uint8), rows.copy()
    wide[:, 2:8] = rows
    unaligned = odd[1:].view(np.float32).reshape(rows.shape)
    unaligned[:] = rows
    fixed.flags.writeable = False
    layouts = (rows.astype("f8"), rows.astype(">f4"), np.asfortranarray(rows), wide[:, 2:8], unaligned, fixed)
    for same in layouts:
        assert found_bits(same) == wanted
    whole = np.round(10 * rows).astype(np.int16)
    assert found_bits(whole) == found_bits(whole.astype(np.float64))


# --- rows that are no numbers ----------------------------------------------------------------------------------


@here
@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
def test_a_row_without_a_density_is_never_hidden(covariance_type: str, value: float) -> None:
    rows = sample(300, 3, 4)
    rows[123, 1] = value
    with np.errstate(all="ignore"):
        stats = sums(rows, 4, covariance_type, "compiled").items[0]
    assert not np.isfinite(stats.log_likelihood)


# --- chosen on the driver, and nowhere else --------------------------------------------------------------------


@pytest.fixture
def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "gmmdask.sweep", raising=False)


def test_a_worker_without_numba_says_what_to_install(without_numba: None) -> None:
    with pytest.raises(MissingKernel, match=r"no module numba here.*gmmdask\[fast\].*gmmdask\.kernel: numpy") as caught:
        sums(np.zeros((9, 2)), 2, "full", "compiled")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert "compiled" not in available()


def test_without_numba_auto_is_numpy_and_compiled_is_refused(without_numba: None) -> None:
    assert fast_kernel("auto") == fast_kernel("numpy") == "products"
    with pytest.raises(MissingKernel):
        fast_kernel("compiled")
    rows = sample(300, 2, 2)
    assert GaussianMixture(2, max_iter=2, tol=0, random_state=0).fit(rows).provenance_["kernel"] == "products"


@here
@pytest.mark.parametrize(("choice", "kernel"), [("auto", "compiled"), ("compiled", "compiled"), ("numpy", "products")])
def test_the_configuration_chooses_and_the_model_tells(choice: str, kernel: str) -> None:
    told: list[Event] = []
    with dask.config.set({"gmmdask.kernel": choice}):
        model = GaussianMixture(2, max_iter=2, tol=0, random_state=0, callbacks=(told.append,)).fit(sample(300, 2, 2))
    assert model.provenance_["kernel"] == model.provenance_["settings"]["kernel"] == kernel
    assert ("numba" in model.provenance_["versions"]) == (kernel == "compiled")
    assert [event.kernel for event in told if isinstance(event, KernelReady)] == ["compiled"] * (kernel == "compiled")


def test_a_kernel_that_was_asked_for_stays() -> None:
    wide = random_mixture(3, 2, "full", seed=0)
    for kernel in ("products", "compiled", "centred"):
        assert Batch(kernel=kernel).e_step(wide).by("products").kernel == kernel
    assert [Batch().e_step(wide).by(fast).kernel for fast in ("products", "compiled")] == ["products", "compiled"]
    assert kernel_for(wide) == "products"


def test_an_unknown_choice_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"gmmdask\.kernel is 'fast': expected one of auto, numpy, compiled"):
        fast_kernel("fast")
    with pytest.raises(ValueError, match="kernel='numpy': expected one of auto, products"):
        Batch(kernel="numpy")


# --- compiled once ---------------------------------------------------------------------------------------------


@here
def test_a_second_process_does_not_compile_again(tmp_path: Path) -> None:
    code = "from gmmdask import compiled; print(len(compiled.loaded().sweep.stats.cache_misses))"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    runs = (subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True) for _ in range(2))
    assert [int(run.stdout) for run in runs] == [2, 0]
