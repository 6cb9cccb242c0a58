"""A cluster that fails in every way: the same bits, or an error that says what to do and a checkpoint to go on from."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from click.testing import CliRunner
from distributed import Client, LocalCluster

from gmmdask import GaussianMixture
from gmmdask.algorithms import Batch
from gmmdask.cli import main
from gmmdask.execution import ClusterError, Threads
from gmmdask.execution.distributed import Cluster, local_cluster
from gmmdask.forecast import check_workers, worker_bytes
from gmmdask.model_file import load_model
from gmmdask.outcome import Event, PassDone, PilotDone
from gmmdask.planning import plan_fit
from gmmdask.settings import Settings
from gmmdask.sources import DataError, NpySource
from gmmdask.start import Start
from gmmdask.synthetic import random_mixture
from gmmdask.task import Block, Data
from gmmdask.testing.passes import data_of
from gmmdask.write import write_predictions

N, D, K = 20_000, 4, 3
ROWS = random_mixture(K, D, "full", seed=2).sample(N, np.random.default_rng(2))[0]
SMALL = 700 << 20  # bytes of a worker that may take little
SETTINGS = {"n_init": 1, "tol": 0, "sample_rows": 1000, "random_state": 3}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "rows.npy"
    np.save(path, ROWS)
    return str(path)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_cluster(2) as executor:
        yield executor.client


def fit(data: object, scheduler: object, **settings: object) -> GaussianMixture:
    resume = bool(settings.pop("resume", False))
    given = {**SETTINGS, "max_iter": 6, **settings}
    return GaussianMixture(K, **given).fit(data, scheduler=scheduler, resume=resume)


def bits(model: GaussianMixture) -> bytes:
    arrays = (model.weights_, model.means_, model.covariances_, np.array(model.lower_bounds_))
    return b"".join(array.tobytes() for array in arrays)


@pytest.fixture(scope="module")
def undisturbed(stored: str) -> bytes:
    return bits(fit(stored, "synchronous"))


# --- workers that die --------------------------------------------------------------------------------------------


class Deadly(NpySource):
    """Rows that kill the process which reads the first of them for the `at`-th time.

    Parameters
    ----------
    marks : folder in which reads are counted.
    death : how.
    always : whether every later read kills too.
    """

    def __init__(self, path: str, marks: Path, at: int, death: str = "exit", always: bool = False) -> None:
        super().__init__(path)
        self.marks, self.at, self.death, self.always = marks, at, death, always

    def read(self, start: int, stop: int) -> Iterator[np.ndarray]:
        if start == 0:
            now = next(n for n in count(1) if is_new(self.marks / str(n)))
            if now == self.at or (self.always and now > self.at):
                DEATHS[self.death]()
        return super().read(start, stop)


def take_memory() -> None:
    """Takes more than it may, until somebody ends the process."""
    held = [np.ones(1 << 22) for _ in range(SMALL // (8 << 22))]
    time.sleep(30)
    raise AssertionError(f"{len(held)} arrays were taken, and nobody minded")


DEATHS = {"exit": lambda: os._exit(1), "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL), "memory": take_memory}


def is_new(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.fixture(scope="module")
def small() -> Iterator[LocalCluster]:
    """A worker that its nanny kills when it takes too much, and starts again."""
    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "memory_limit": SMALL}
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}),  # as `local_cluster` does
        LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster,
    ):
        yield cluster


PHASES = {"the pilot": 1, "a pass": 4}  # reads until then
ALWAYS_RUN = ("exit", "the pilot"), ("memory", "a pass"), ("exit", "writing")


def deaths(*phases: str) -> list[Any]:
    """Every death in every phase; most of them are slow trials."""
    pairs = [(death, phase) for death in DEATHS for phase in phases]
    return [pytest.param(*pair, marks=[] if pair in ALWAYS_RUN else pytest.mark.slow) for pair in pairs]


@pytest.mark.parametrize(("death", "phase"), deaths(*PHASES))
def test_a_worker_that_dies_while_it_reads_changes_no_bit(
    stored: str, small: LocalCluster, tmp_path: Path, undisturbed: bytes, death: str, phase: str
) -> None:
    with Client(small, set_as_default=False) as client:
        assert bits(fit(Deadly(stored, tmp_path, PHASES[phase], death), client)) == undisturbed
    assert len(list(tmp_path.iterdir())) == 1 + 6 + 1  # a pilot, six laps, and one read again


def test_a_task_that_takes_too_much_memory_everywhere_is_75_with_a_checkpoint_to_go_on_from(
    stored: str, small: LocalCluster, tmp_path: Path, of_forty_laps: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "marks").mkdir()
    greedy = Deadly(stored, tmp_path / "marks", 4, "memory", always=True)
    monkeypatch.setattr(small.scheduler, "allowed_failures", 0)
    with monkeypatch.context() as patch:
        patch.setattr("gmmdask.cli.fit.open_weighted", lambda data, options: greedy)
        words = command(stored, tmp_path, "--scheduler", small.scheduler_address, "--checkpoint-every", "0")
        ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 75, ended.output
    told = json.loads(ended.stderr.splitlines()[-1])["message"]
    assert re.search(r"part 0 \(rows 0 to [\d,]+\) killed tcp://127\.0\.0\.1:\d+ and 0 others before it\.", told)
    assert re.search(rf"planned to take [\d,]+ bytes; that worker was allowed {SMALL:,} bytes, for 1 tasks at", told)
    assert "give workers more, or fewer threads, or set a smaller memory_limit" in told
    assert "--resume goes on from it" in told
    assert forty_laps(stored, tmp_path, "--resume") == of_forty_laps


@pytest.mark.parametrize(("death", "phase"), deaths("writing"))
def test_a_worker_that_dies_while_predictions_are_written_changes_none(
    stored: str, small: LocalCluster, tmp_path: Path, death: str, phase: str
) -> None:
    mixture = random_mixture(K, D, "full", seed=2)
    (tmp_path / "marks").mkdir()
    write_predictions(mixture, NpySource(stored), tmp_path / "here", ("labels", "proba"), Threads(1), False)
    deadly = Deadly(stored, tmp_path / "marks", 1, death)
    with Client(small, set_as_default=False) as client, Cluster(client) as executor:
        write_predictions(mixture, deadly, tmp_path / "there", ("labels", "proba"), executor, False)
    assert len(list((tmp_path / "marks").iterdir())) == 2
    files = {
        name: {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).glob("*/c/**/*")
            if path.is_file()
        }
        for name in ("here", "there")
    }
    assert files["here"]
    assert files["here"] == files["there"]


class Turnover:
    """A callback under which the cluster grows, loses one worker after another and gets new ones, from the start on."""

    def __init__(self, client: Client, cluster: LocalCluster) -> None:
        self.client, self.cluster, self.killed = client, cluster, set[int]()

    def __call__(self, event: Event) -> None:
        if isinstance(event, PilotDone):
            self.cluster.scale(2)
        if isinstance(event, PilotDone) or (isinstance(event, PassDone) and event.lap in (2, 4)):
            self.client.wait_for_workers(1, timeout=60)
            pid = next(iter(self.client.run(os.getpid, on_error="ignore").values()))
            os.kill(pid, signal.SIGKILL)
            self.killed.add(pid)
        if isinstance(event, PassDone) and event.lap == 5:
            self.cluster.scale(1)


def test_workers_that_join_and_leave_in_mid_fit_change_no_bit(stored: str, undisturbed: bytes) -> None:
    with local_cluster(1) as executor:
        turnover = Turnover(executor.client, executor.client.cluster)
        assert bits(fit(stored, executor.client, callbacks=(turnover,))) == undisturbed
    assert len(turnover.killed) == 3


def test_a_local_cluster_starts_workers_again_however_often_they_die() -> None:
    name = "distributed.deploy.lost-worker-timeout"
    before = dask.config.get(name)
    with dask.config.set({name: "1 ms"}), local_cluster(1) as executor:
        (pid,) = executor.client.run(os.getpid).values()
        os.kill(pid, signal.SIGKILL)
        while list(executor.client.run(os.getpid, on_error="ignore").values()) in ([], [pid]):
            executor.client.wait_for_workers(1, timeout=30)
        assert executor.client.cluster.workers  # with a nanny that is not about to close
    assert dask.config.get(name) == before


def test_two_fits_at_once_on_one_cluster(stored: str, client: Client, undisturbed: bytes) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fit, stored, client)
        second = pool.submit(fit, stored, client, covariance_type="tied", random_state=8)
    assert bits(first.result()) == undisturbed
    assert bits(second.result()) == bits(fit(stored, "synchronous", covariance_type="tied", random_state=8))


# --- workers that cannot -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fatal:
    """Work that takes the process with it on the block that begins at a row."""

    row: int

    def __call__(self, blocks: Iterable[Block]) -> int:
        for block in blocks:
            if block.first_row == self.row:
                os._exit(1)
        return 1


def test_a_task_that_kills_worker_after_worker_is_told_with_its_part_and_memory() -> None:
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), local_cluster(1) as executor:
        data = data_of(ROWS[:5000], executor, block_rows=100)
        (part,) = data.plan.parts  # others, which wait for the same worker, may be said to have killed it
        executor.planned = 12_345_678
        with pytest.raises(ClusterError) as raised:
            data.sums(Fatal(part.start))
    assert type(raised.value.__cause__).__name__ == "KilledWorker"
    told = str(raised.value)
    assert f"part {part.index} (rows {part.start:,} to {part.stop - 1:,}) killed tcp://127.0.0.1:" in told
    assert "planned to take 12,345,678 bytes; that worker had no memory limit, for 1 tasks at once" in told
    assert "set a smaller memory_limit" in told


def settings_of(k: int) -> Settings:
    return Settings(Start("full", k), Batch(tol=0, max_iter=1))


class Elsewhere(Threads):
    """Threads that say of a worker what it may take."""

    def __init__(self, limit: int, tasks: int) -> None:
        super().__init__(1)
        self.room = {"tcp://there:1": (limit, tasks)}

    @property
    def rooms(self) -> dict[str, tuple[int, int]]:
        return self.room


@pytest.mark.parametrize("tasks", [1, 3])
def test_what_a_small_worker_is_refused_with_would_fit(tmp_path: Path, tasks: int) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((20_000, 40)))
    source, settings = NpySource(tmp_path / "wide.npy"), settings_of(300)
    memory = plan_fit(source, settings, Threads(1))[1]
    enough = worker_bytes(memory.task, tasks)
    assert 0.8 * enough - tasks * memory.task > 150 << 20  # for the process itself
    check_workers(source, settings, Elsewhere(enough, tasks), memory)
    with pytest.raises(DataError, match=rf"tcp://there:1 may take {enough - 1:,} bytes; a task needs") as raised:
        check_workers(source, settings, Elsewhere(enough - 1, tasks), memory)
    assert f"{enough:,} bytes each" in str(raised.value)
    with pytest.raises(DataError, match="smaller chunks, or give workers"):
        check_workers(source, settings, Elsewhere(worker_bytes(1000, tasks), tasks), memory)


def test_the_memory_limit_that_a_refusal_names_fits(tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((200_000, 40)))
    source, settings = NpySource(tmp_path / "wide.npy"), settings_of(100)
    memory = plan_fit(source, settings, Threads(1))[1]
    small = Elsewhere(worker_bytes(memory.task * 9 // 10, 1), 1)
    with pytest.raises(DataError, match="Set memory_limit=") as raised:
        check_workers(source, settings, small, memory)
    named = int(re.search(r"memory_limit=([\d,]+)", str(raised.value)).group(1).replace(",", ""))
    limited = Settings(settings.start, settings.algorithm, memory_limit=named)
    check_workers(source, limited, small, plan_fit(source, limited, small)[1])


def test_workers_with_less_memory_than_the_plan_needs_are_refused_before_the_first_read(
    stored: str, tmp_path: Path
) -> None:
    unlimited = dict.fromkeys(f"distributed.worker.memory.{what}" for what in ("target", "spill", "pause", "terminate"))
    options = {"n_workers": 1, "threads_per_worker": 2, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set(dict.fromkeys(unlimited, False)),
        LocalCluster(memory_limit=50_000_000, **options) as small,
        Client(small, set_as_default=False) as client,
        pytest.raises(DataError, match=r"tcp://127.0.0.1:\d+ may take 50,000,000 bytes; a task needs [\d,]+, and 2 at"),
    ):
        fit(Deadly(stored, tmp_path, 1), client)
    assert not list(tmp_path.iterdir())


# --- nothing happens ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """Work that stands still on the part that begins at a row until a file is there."""

    row: int
    gate: Path

    def __call__(self, blocks: Iterable[Block]) -> int:
        for block in blocks:
            while block.first_row == self.row and not self.gate.exists():
                time.sleep(0.01)
        return 1


def tasks_of(dask_scheduler: object) -> list[str]:
    return [str(key) for key in dask_scheduler.tasks]  # type: ignore[attr-defined]


def is_empty(client: Client) -> bool:
    """Whether the scheduler comes to have no tasks: it is told of it in passing."""
    end = time.monotonic() + 20
    while client.run_on_scheduler(tasks_of):
        if time.monotonic() > end:
            return False
    return True


def test_a_pass_that_stands_still_is_an_error_that_names_what_is_waited_for(
    stored: str, client: Client, tmp_path: Path
) -> None:
    with Cluster(client) as executor:
        data: Data = data_of(NpySource(stored), executor, block_rows=100)
        part, gate = data.plan.parts[2], tmp_path / "gate"
        work = Held(part.start, gate)
        gate.touch()
        assert data.sums(work) == len(data.plan.parts)
        gate.unlink()
        try:
            with (
                dask.config.set({"gmmdask.stall-timeout": 1.5}),
                pytest.raises(ClusterError, match=r"no task has finished for 1\.5 s\. Waited for") as raised,
            ):
                data.sums(work)
            assert f"part 2 (rows {part.start:,} to {part.stop - 1:,}) on tcp://" in str(raised.value)
        finally:
            gate.touch()
        assert data.sums(work) == len(data.plan.parts)
        assert is_empty(client)


class Deserted:
    """A callback under which all workers leave after a lap."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster

    def __call__(self, event: Event) -> None:
        if isinstance(event, PassDone) and event.lap == 2:
            self.cluster.scale(0)
            self.cluster.sync(self.cluster._correct_state)


def test_a_fit_that_loses_all_workers_ends_after_a_bounded_wait_and_resumes(
    stored: str, tmp_path: Path, undisturbed: bytes
) -> None:
    checkpoint = tmp_path / "c"
    with local_cluster(1) as executor, dask.config.set({"gmmdask.wait-for-workers": 1}):
        deserted = Deserted(executor.client.cluster)
        with pytest.raises(ClusterError, match="has lost all workers, and no other has come for 1 s"):
            fit(stored, executor.client, checkpoint=checkpoint, callbacks=(deserted,))
    assert bits(fit(stored, "threads", checkpoint=checkpoint, resume=True)) == undisturbed


def test_a_connection_that_is_lost_between_passes_is_told(stored: str, client: Client) -> None:
    with Client(client.scheduler.address, set_as_default=False) as mine:

        def close(event: Event) -> None:
            if isinstance(event, PassDone) and event.lap == 2:
                mine.close()

        with pytest.raises(ClusterError, match="the connection was lost"):
            fit(stored, mine, callbacks=(close,))


# --- the command, on a cluster of other processes ----------------------------------------------------------------

CLUSTER = """
from gmmdask.execution.distributed import local_cluster
with local_cluster(1) as cluster:
    print(cluster.client.scheduler.address, flush=True)
    input()
"""
# a shell starts what runs in its background with SIGINT ignored, these tests perhaps
MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from gmmdask.cli import main; main()"


@contextmanager
def cluster_elsewhere() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a scheduler, and its process."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-c", CLUSTER], **pipes) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.communicate("\n")


def command(stored: str, folder: Path, *more: str) -> list[str]:
    """Words of a fit of many laps, of which the last option counts."""
    words = f"fit {stored} -k {K} --seed 3 --tol 0 --sample-rows 1000 --accelerate none --log-format json".split()
    places = ["-o", str(folder / "m"), "--checkpoint", str(folder / "c")]
    return [*words, *places, "--max-iter", "5000", *more]


def interrupted(words: list[str], number: int, process: subprocess.Popen[str] | None = None) -> tuple[int, str]:
    """The exit code and last words of a command whose process, or another, gets a signal in its third lap."""
    python = [sys.executable, "-c", MAIN]
    with subprocess.Popen([*python, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as fitting:
        assert fitting.stderr is not None
        for line in fitting.stderr:
            if '"PassDone"' in line and '"lap": 3' in line:
                break
        else:
            pytest.fail("the fit ended by itself")
        os.kill((process or fitting).pid, number)
        try:
            rest = fitting.communicate(timeout=60)[1]
        finally:
            fitting.kill()
    return fitting.returncode, rest.splitlines()[-1]


def model_bits(path: Path) -> bytes:
    mixture = load_model(path).mixture
    return b"".join(array.tobytes() for array in (mixture.weights, mixture.means, mixture.covariances))


def forty_laps(stored: str, folder: Path, *more: str) -> bytes:
    """The model of the same command, in this process and with 40 laps."""
    words = command(stored, folder, "--max-iter", "40", *more)
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 0, ended.output
    mixture = load_model(folder / "m").mixture
    return b"".join(array.tobytes() for array in (mixture.weights, mixture.means, mixture.covariances))


@pytest.fixture(scope="module")
def of_forty_laps(stored: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return forty_laps(stored, tmp_path_factory.mktemp("forty"))


def test_a_scheduler_that_dies_in_mid_fit_is_75_and_the_fit_goes_on_with_another(
    stored: str, tmp_path: Path, client: Client, of_forty_laps: bytes
) -> None:
    with cluster_elsewhere() as (address, process):
        code, told = interrupted(command(stored, tmp_path, "--scheduler", address), signal.SIGKILL, process)
    assert code == 75
    assert "the connection was lost" in told
    assert "--resume goes on from it" in told
    assert forty_laps(stored, tmp_path, "--scheduler", client.scheduler.address, "--resume") == of_forty_laps


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_drops_the_pass_writes_the_checkpoint_and_leaves_no_task_on_the_cluster(
    stored: str, tmp_path: Path, client: Client, of_forty_laps: bytes, number: int, code: int
) -> None:
    there = ("--scheduler", client.scheduler.address)
    found, told = interrupted(command(stored, tmp_path, *there), number)
    assert found == code
    assert "--resume goes on from it" in told
    assert is_empty(client)
    assert forty_laps(stored, tmp_path, *there, "--resume") == of_forty_laps


# --- scripts -----------------------------------------------------------------------------------------------------

UNGUARDED = """
from gmmdask.execution.distributed import local_cluster
with local_cluster(1) as cluster:
    print(cluster.name)
"""


def test_a_script_without_a_main_guard_is_told_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    ended = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "if __name__ == '__main__':" in ended.stderr.splitlines()[-1]
    assert not ended.stdout
