"""Promises P2 and P3: the same bits whoever runs the fit, and the same model however the rows are stored."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import dask
import dask.array
import numpy as np
import pytest
import zarr
from distributed import Client

from gmmdask import GaussianMixture, open_source
from gmmdask.algorithms import Algorithm, Gradient, Incremental, Riemannian, Stochastic
from gmmdask.covariance import FAMILIES
from gmmdask.estep import EStep, ESteps
from gmmdask.execution import ClusterError, Executor, Threads, one_thread
from gmmdask.execution.distributed import Cluster, local_cluster
from gmmdask.frame import Frame
from gmmdask.outcome import Event, PassDone, StepDone
from gmmdask.pilot import first_look
from gmmdask.plan import make_plan
from gmmdask.synthetic import make_dataset, random_mixture
from gmmdask.task import Data

N, D, K = 30_000, 5, 4
TRUTH = random_mixture(K, D, "full", seed=1)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "rows.zarr"
    make_dataset(TRUTH, N, path, seed=1, chunk_rows=1250)
    return str(path)


@pytest.fixture(scope="module", params=[1, 3])
def cluster(request: pytest.FixtureRequest) -> Iterator[Client]:
    with local_cluster(request.param) as executor:
        yield executor.client


def fit(data: object, scheduler: object, covariance_type: str = "full", **settings: object) -> GaussianMixture:
    settings = {"n_init": 2, "max_iter": 4, "tol": 0, "sample_rows": 3000, "random_state": 3, **settings}
    return GaussianMixture(K, covariance_type=covariance_type, **settings).fit(data, scheduler=scheduler)


def bits(model: GaussianMixture) -> bytes:
    arrays = (model.weights_, model.means_, model.covariances_, np.array(model.lower_bounds_))
    return b"".join(array.tobytes() for array in arrays)


@cache
def serial_bits(data: str, covariance_type: str = "full", kernel: str = "auto", **settings: object) -> bytes:
    """Those of a fit in one thread, made once for all tests that compare with it."""
    with dask.config.set({"gmmdask.kernel": kernel}):
        return bits(fit(data, "synchronous", covariance_type, **settings))


@pytest.mark.parametrize("kernel", ["auto", "numpy"])
@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_threads_give_the_bits_of_serial(stored: str, covariance_type: str, kernel: str) -> None:
    serial = serial_bits(stored, covariance_type, kernel)
    with dask.config.set({"gmmdask.kernel": kernel}):
        for executor in (Threads(2), Threads(4), "threads"):
            assert bits(fit(stored, executor, covariance_type)) == serial


@pytest.mark.parametrize(("covariance_type", "kernel"), [*((name, "auto") for name in FAMILIES), ("full", "numpy")])
def test_clusters_give_the_bits_of_serial(stored: str, cluster: Client, covariance_type: str, kernel: str) -> None:
    with dask.config.set({"gmmdask.kernel": kernel}):
        assert bits(fit(stored, cluster, covariance_type)) == serial_bits(stored, covariance_type, kernel)


def test_starts_from_all_rows_give_the_bits_of_serial(stored: str, cluster: Client) -> None:
    settings = {"init_params": "k-means||", "max_iter": 1}
    serial = bits(fit(stored, "synchronous", **settings))
    assert bits(fit(stored, Threads(3), **settings)) == serial
    assert bits(fit(stored, cluster, **settings)) == serial


def test_moved_components_give_the_bits_of_serial(stored: str) -> None:
    settings = {"refine": "split-merge", "init_params": "random_from_data", "max_iter": 1}
    assert bits(fit(stored, Threads(3), **settings)) == bits(fit(stored, "synchronous", **settings))


def test_missing_values_give_the_bits_of_serial(stored: str, cluster: Client, tmp_path: Path) -> None:
    rows = zarr.open_array(stored, mode="r")[:8_000]
    rows[np.random.default_rng(0).random(rows.shape) < 0.2] = np.nan
    zarr.create_array(tmp_path / "rows", data=rows, chunks=(1000, D))
    serial = bits(fit(str(tmp_path / "rows"), "synchronous", missing="em"))
    for scheduler in (Threads(2), cluster):
        assert bits(fit(str(tmp_path / "rows"), scheduler, missing="em")) == serial


def test_arrays_in_memory_travel_to_a_cluster_once(stored: str, cluster: Client) -> None:
    rows = zarr.open_array(stored, mode="r")[:]
    assert bits(fit(rows, cluster)) == bits(fit(rows, "synchronous"))


def test_a_cluster_without_workers_is_told_after_a_bounded_wait(stored: str) -> None:
    with local_cluster(1) as executor, dask.config.set({"gmmdask.wait-for-workers": 0.2}):
        executor.client.cluster.scale(0)
        executor.client.retire_workers()
        with pytest.raises(ClusterError, match=r"cluster tcp://127\.0\.0\.1:\d+ has had no worker for 0\.2 s"):
            fit(stored, executor.client.scheduler.address)


def test_arrays_too_large_to_travel_are_refused_with_the_remedy(cluster: Client) -> None:
    executor = Cluster(cluster)
    executor.most_kept = 1000
    with pytest.raises(ValueError, match=r"24,000 bytes of rows .* at most 1,000\. Store them as Zarr"):
        GaussianMixture(2, sample_rows=10).fit(np.ones((1000, 3)), scheduler=executor)


class Killer:
    """A callback that kills the process of one worker while the pass after lap 1 is under way."""

    def __init__(self, client: Client, moment: type[PassDone | StepDone] = PassDone) -> None:
        self.client, self.killed, self.moment, self.done = client, 0, moment, False

    def __call__(self, event: Event) -> None:
        if isinstance(event, self.moment) and event.lap == 1 and not self.done:
            self.done = True
            pids = self.client.run(os.getpid)
            threading.Thread(target=self.kill, args=(next(iter(pids.values())),)).start()

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.killed = pid


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_killed_worker_does_not_change_a_bit(stored: str, in_memory: bool) -> None:
    data = zarr.open_array(stored, mode="r")[:] if in_memory else stored
    with local_cluster(2) as executor:
        killer = Killer(executor.client)
        found = fit(data, executor.client, callbacks=(killer,), max_iter=8)
    assert killer.killed
    assert bits(found) == bits(fit(data, "synchronous", max_iter=8))


INTERRUPTED = """
import os, signal, sys
from gmmdask import GaussianMixture
from gmmdask.outcome import CheckpointWritten, PassDone
import dask.config

class Stop:
    lap = 0
    def __call__(self, event):
        if isinstance(event, PassDone):
            self.lap = event.lap
        if isinstance(event, CheckpointWritten) and self.lap == {lap}:
            os.kill(os.getpid(), signal.SIGKILL)

with dask.config.set({{"gmmdask.checkpoint-interval": 0}}):
    GaussianMixture(4, n_init=2, max_iter=8, tol=0, sample_rows=3000, random_state=3, callbacks=(Stop(),),
                    checkpoint=sys.argv[2]).fit(sys.argv[1], scheduler="threads")
"""


MID_LAP = {
    "stochastic": Stochastic(tol=0, max_iter=2, mini_batches=20),
    "incremental": Incremental(tol=0, max_iter=2, mini_batches=20),
}


@pytest.mark.parametrize("name", MID_LAP)
def test_mini_batches_give_the_bits_of_serial(stored: str, cluster: Client, name: str) -> None:
    algorithm, rows = MID_LAP[name], zarr.open_array(stored, mode="r")[:]
    serial = serial_bits(stored, algorithm=algorithm)
    assert bits(fit(stored, Threads(2), algorithm=algorithm)) == serial
    assert bits(fit(stored, cluster, algorithm=algorithm)) == serial
    assert bits(fit(rows, cluster, algorithm=algorithm)) == bits(fit(rows, "synchronous", algorithm=algorithm))


@pytest.mark.parametrize(
    "algorithm",
    [
        Gradient("adam", tol=0, max_iter=1, mini_batches=8),
        Riemannian(tol=0, max_iter=3),
    ],
    ids=["adam", "riemannian"],
)
def test_gradients_give_the_bits_of_serial(stored: str, cluster: Client, algorithm: Algorithm) -> None:
    serial = serial_bits(stored, algorithm=algorithm)
    assert bits(fit(stored, Threads(2), algorithm=algorithm)) == serial
    assert bits(fit(stored, cluster, algorithm=algorithm)) == serial


@pytest.mark.parametrize("name", MID_LAP)
def test_a_worker_killed_in_mid_lap_does_not_change_a_bit(stored: str, name: str) -> None:
    """Rows in flight die with it, and are read again."""
    with local_cluster(2) as executor:
        killer = Killer(executor.client, StepDone)
        found = fit(stored, executor.client, callbacks=(killer,), algorithm=MID_LAP[name])
    assert killer.killed
    assert bits(found) == serial_bits(stored, algorithm=MID_LAP[name])


INTERRUPTED_IN_MID_LAP = """
import os, signal, sys
from gmmdask import GaussianMixture
from gmmdask.outcome import CheckpointWritten, PassDone, StepDone
import dask.config

class Stop:
    steps = 0
    def __call__(self, event):
        self.steps += isinstance(event, StepDone | PassDone)
        if isinstance(event, CheckpointWritten) and self.steps == {step}:
            os.kill(os.getpid(), signal.SIGKILL)

with dask.config.set({{"gmmdask.checkpoint-interval": 0}}):
    GaussianMixture(4, n_init=2, max_iter=3, tol=0, sample_rows=3000, random_state=3, callbacks=(Stop(),),
                    checkpoint=sys.argv[2], algorithm={algorithm!r}).fit(sys.argv[1], scheduler="threads")
"""


@pytest.mark.parametrize(  # in the first lap, and in the second
    ("name", "step"), [("stochastic", 1), ("stochastic", 150), ("incremental", 1), ("incremental", 50)]
)
def test_killed_in_mid_lap_and_resumed_it_ends_in_the_same_bits(
    stored: str, tmp_path: Path, name: str, step: int
) -> None:
    checkpoint = tmp_path / "fit.ckpt"
    code = INTERRUPTED_IN_MID_LAP.format(step=step, algorithm=name)
    killed = subprocess.run([sys.executable, "-c", code, stored, str(checkpoint)], check=False)
    assert killed.returncode == -signal.SIGKILL
    common = {"n_init": 2, "max_iter": 3, "tol": 0, "sample_rows": 3000, "random_state": 3, "algorithm": name}
    resumed = GaussianMixture(K, checkpoint=checkpoint, **common).fit(stored, resume=True)
    assert bits(resumed) == serial_bits(stored, max_iter=3, algorithm=name)
    assert len(resumed.history_) == 3


@pytest.mark.parametrize("lap", [0, 3, 8])
def test_a_killed_and_resumed_fit_ends_in_the_same_bits(stored: str, tmp_path: Path, lap: int) -> None:
    checkpoint = tmp_path / "fit.ckpt"
    killed = subprocess.run([sys.executable, "-c", INTERRUPTED.format(lap=lap), stored, str(checkpoint)], check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = GaussianMixture(
        K, n_init=2, max_iter=8, tol=0, sample_rows=3000, random_state=3, checkpoint=checkpoint
    ).fit(stored, resume=True)
    assert bits(resumed) == serial_bits(stored, max_iter=8)
    assert len(resumed.history_) == 8


# --- however the rows are stored ---------------------------------------------------------------------------------


def irregular(rows: np.ndarray) -> dask.array.Array:
    return dask.array.from_array(rows, chunks=((1, 7000, 0, 19999, N - 27000), (2, D - 2)))


def unknown(rows: np.ndarray) -> dask.array.Array:
    keep = dask.array.concatenate([dask.array.from_array(rows, chunks=(9000, D)), dask.array.full((50, D), 99.0)])
    return keep[keep[:, 0] < 50]


def layouts(rows: np.ndarray, folder: Path) -> Iterator[tuple[str, object]]:
    np.save(folder / "rows.npy", rows)
    yield ".npy", str(folder / "rows.npy")
    for name, grid in {
        "one chunk": {"chunks": (N, D)},
        "37-row chunks": {"chunks": (37, D)},
        "shards": {"chunks": (100, D), "shards": (5000, D)},
        "format 2": {"chunks": (4000, 2), "zarr_format": 2},
    }.items():
        array = zarr.create_array(folder / f"{name}.zarr", shape=(N, D), dtype="f8", **grid)
        array[:] = rows
        yield name, array
    yield "irregular dask", irregular(rows)
    yield "unknown dask", unknown(rows)


def test_layouts_of_the_same_rows_give_the_same_statistics_sample_and_model(stored: str, tmp_path: Path) -> None:
    rows = zarr.open_array(stored, mode="r")[:]
    frame = Frame.of(TRUTH.family, *TRUTH.moments())
    inside = frame.mixture_in(TRUTH)
    reference, scale = None, (np.abs(rows) @ np.abs(frame.matrix).T).max() ** 2 * N
    for name, data in layouts(rows, tmp_path):
        source = open_source(data)
        found = Data(source, make_plan(source.edges, D, 1024), Threads())
        with one_thread():
            (stats,) = found.sums(ESteps(((frame, EStep(inside, "products")),), 1024)).items
            sample = first_look(found, 5, 2000, 200)
        model = fit(data, None, max_iter=5)
        if reference is None:
            reference = (stats, sample, model)
        assert np.abs(stats.vector - reference[0].vector).max() <= 1e-12 * scale, name
        np.testing.assert_array_equal(sample.sample, reference[1].sample, err_msg=name)
        np.testing.assert_array_equal(sample.held_out, reference[1].held_out, err_msg=name)
        np.testing.assert_allclose(model.weights_, reference[2].weights_, rtol=0, atol=1e-10, err_msg=name)
        np.testing.assert_allclose(model.means_, reference[2].means_, rtol=0, atol=1e-10, err_msg=name)
        np.testing.assert_allclose(model.covariances_, reference[2].covariances_, rtol=0, atol=1e-10, err_msg=name)


def test_a_fit_inside_a_dask_task_of_a_one_thread_worker(stored: str) -> None:
    with local_cluster(1) as executor:
        inside = executor.client.submit(bits_of_fit, stored).result(timeout=120)
    assert inside == serial_bits(stored)


def bits_of_fit(data: str) -> bytes:
    return bits(fit(data, None))


def test_an_owned_cluster_is_closed_and_a_borrowed_one_is_not(stored: str, cluster: Client) -> None:
    executor: Executor = Cluster(cluster)
    fit(stored, executor, max_iter=1)
    assert cluster.status == "running"
