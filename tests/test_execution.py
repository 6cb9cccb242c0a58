"""Plans, the tree, and the executors: the contract applied to threads and to a cluster of two processes."""

import os
import subprocess
import sys
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from gmmdask.execution import ClusterError, Executor, Threads, one_thread, open_executor, threads, tree
from gmmdask.execution.distributed import Cluster, local_cluster
from gmmdask.execution.tree import FAN_IN
from gmmdask.plan import MIN_PARTS, Part, make_plan
from gmmdask.sources import NpySource
from gmmdask.testing.contracts import ExecutorTests
from gmmdask.testing.passes import data_of
from gmmdask.testing.strategies import LAW

# --- the plan --------------------------------------------------------------------------------------------------

sizes = st.lists(st.integers(1, 500), min_size=1, max_size=60)


def edges_of(chunks: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(chunks)])


@LAW
@given(chunks=sizes, d=st.integers(1, 20), part_bytes=st.sampled_from([100, 5_000, 100_000, 64 << 20]))
def test_parts_are_runs_of_whole_chunks(chunks: list[int], d: int, part_bytes: int) -> None:
    edges = edges_of(chunks)
    plan = make_plan(edges, d, 512, part_bytes)
    assert [part.index for part in plan.parts] == list(range(len(plan.parts)))
    assert plan.parts[0].start == 0
    assert all(part.stop == following.start for part, following in pairwise(plan.parts))
    assert all(part.start < part.stop for part in plan.parts)
    assert plan.n == plan.parts[-1].stop == edges[-1]
    assert {part.start for part in plan.parts} <= set(edges.tolist())
    assert [piece.part for piece in plan.everything] == list(plan.parts)
    assert all(type(part.start) is int for part in plan.parts)  # JSON and keys of graphs


@LAW
@given(chunk=st.integers(1, 500), chunks=st.integers(1, 60), last=st.integers(1, 500), part_bytes=st.integers(1, 10**6))
def test_parts_of_a_regular_grid_are_small_and_at_least_eight(
    chunk: int, chunks: int, last: int, part_bytes: int
) -> None:
    n = chunk * (chunks - 1) + min(last, chunk)
    plan = make_plan(np.append(np.arange(0, n, chunk), n), 1, 512, part_bytes)
    assert len(plan.parts) >= min(MIN_PARTS, chunks)
    assert max(part.stop - part.start for part in plan.parts) <= part_bytes / 8 + 2 * chunk


@pytest.mark.parametrize("chunks", [[100] * 7 + [1], [1000] + [1] * 8], ids=["short last chunk", "one large chunk"])
def test_there_are_at_least_eight_parts_where_chunks_allow(chunks: list[int]) -> None:
    assert len(make_plan(edges_of(chunks), 1, 512).parts) >= MIN_PARTS


# --- the tree --------------------------------------------------------------------------------------------------


def term(leaves: dict[int, str]) -> Any:
    """What the tree adds to what, as nested tuples of leaf names."""
    graph, root = tree({part: [name] for part, name in leaves.items()}, "t")

    def value(key: Hashable) -> Any:
        if key not in graph:
            return key
        members = [value(ref.key) for ref in graph[key].args[0].args]
        assert 1 <= len(members) <= FAN_IN
        return members[0] if len(members) == 1 else tuple(members)

    return value(root)


def leaves_of(nested: Any) -> list[str]:
    return [nested] if isinstance(nested, str) else [leaf for part in nested for leaf in leaves_of(part)]


def without(nested: Any, absent: set[str]) -> Any:
    """A term with some leaves struck out; None if nothing is left."""
    if isinstance(nested, str):
        return None if nested in absent else nested
    kept = [part for part in (without(part, absent) for part in nested) if part is not None]
    return (kept[0] if len(kept) == 1 else tuple(kept)) if kept else None


@LAW
@given(n=st.integers(1, 700), data=st.data())
def test_the_tree_skips_absent_parts_and_keeps_the_rest(n: int, data: st.DataObject) -> None:
    every = {i: f"part-{i}" for i in range(n)}
    whole = term(every)
    assert leaves_of(whole) == list(every.values())
    kept = data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=20))
    absent = {name for i, name in every.items() if i not in kept}
    assert term({i: every[i] for i in sorted(kept, reverse=True)}) == without(whole, absent)


def test_the_association_is_the_one_on_the_label() -> None:
    names = {i: f"part-{i}" for i in range(FAN_IN * FAN_IN + 1)}
    groups = [tuple(names[FAN_IN * g + i] for i in range(FAN_IN)) for g in range(FAN_IN)]
    assert term(names) == (tuple(groups), names[FAN_IN * FAN_IN])


def test_slices_of_a_part_are_added_before_parts_are() -> None:
    graph, root = tree({0: ["a", "b"], 1: ["c"]}, "t")
    assert dask.get({"a": 1.0, "b": 2.0, "c": 4.0, **graph}, root) == 7.0
    assert dask.get({"a": 1e16, "b": -1e16, "c": 1.0, **graph}, root) == 1.0


def test_addition_runs_from_left_to_right() -> None:
    """(1 + 1e16) - 1e16 is 0, and 1 in other orders."""
    values = {"a": 1.0, "b": 1e16, "c": -1e16}
    graph, root = tree({0: ["a"], 1: ["b"], 2: ["c"]}, "t")
    assert dask.get({**values, **graph}, root) == 0.0


# --- executors -------------------------------------------------------------------------------------------------


class TestThreads(ExecutorTests):
    @pytest.fixture(params=[1, 2, 4])
    def executor(self, request: pytest.FixtureRequest) -> Iterator[Executor]:
        with Threads(request.param) as entered:
            yield entered


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with local_cluster(2) as entered:
        yield entered


@pytest.mark.timeout(120)
class TestCluster(ExecutorTests):
    @pytest.fixture
    def executor(self, cluster: Cluster) -> Cluster:
        return cluster

    def test_rows_in_memory_are_sent_once(self, executor: Cluster) -> None:
        data = data_of(np.random.default_rng(0).normal(size=(650, 3)), executor, block_rows=16)
        first = self.e_step_bytes(data)
        keys = {future.key for future in data._inputs[0].kept.values()}
        assert self.e_step_bytes(data) == first
        assert {future.key for future in data._inputs[0].kept.values()} == keys

    def test_stored_rows_are_read_by_the_workers(self, executor: Cluster, tmp_path: Path) -> None:
        rows = np.random.default_rng(0).normal(size=(650, 3))
        np.save(tmp_path / "rows.npy", rows)
        found = self.e_step_bytes(data_of(NpySource(tmp_path / "rows.npy"), executor, block_rows=16))
        assert found == self.e_step_bytes(data_of(rows, block_rows=16))

    def test_a_client_is_an_executor(self, executor: Cluster) -> None:
        """And the client that the user made stays open."""
        with open_executor(executor.client) as opened:
            assert opened.name == executor.name
            assert opened.get({"a": (sum, [1, 2])}, "a") == 3
        assert executor.client.status == "running"
        with open_executor(executor.client.scheduler.address) as opened:
            assert opened.get({"a": (sum, [1, 2])}, "a") == 3

    def test_the_current_client_is_the_default(self, executor: Cluster) -> None:
        with executor.client.as_current():
            assert isinstance(open_executor(), Cluster)
        assert isinstance(open_executor(), Threads)

    def test_workers_compute_with_one_thread(self, executor: Cluster) -> None:
        for counts in executor.client.run(library_threads).values():
            assert set(counts) <= {1}
        assert set(executor.client.run(plugins_of_worker).values()) == {True}


def plugins_of_worker(dask_worker: Any) -> bool:
    return "gmmdask-one-thread" in dask_worker.plugins


def test_a_process_can_be_limited_for_good() -> None:
    code = (
        "import numpy, threadpoolctl; from gmmdask.execution.threads import one_thread_for_good as limit; limit();"
        "print({library['num_threads'] for library in threadpoolctl.threadpool_info()} <= {1})"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "True"


def library_threads() -> list[int]:
    import numpy  # noqa: F401 - loads the library that is asked about
    from threadpoolctl import threadpool_info

    return [library["num_threads"] for library in threadpool_info()]


@pytest.mark.timeout(60)
def test_a_cluster_without_workers_is_an_error() -> None:
    options = {"n_workers": 0, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        distributed.LocalCluster(**options) as empty,
        distributed.Client(empty, set_as_default=False) as client,
        dask.config.set({"gmmdask.wait-for-workers": 0.2}),
        pytest.raises(ClusterError, match=r"no worker for 0\.2 s"),
        open_executor(client),
    ):
        pass


@pytest.mark.timeout(30)
def test_a_scheduler_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    with (
        dask.config.set({"gmmdask.connect-timeout": 0.3}),
        pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1 .waited 0\.3 s"),
    ):
        open_executor("tcp://127.0.0.1:1")
    (tmp_path / "scheduler.json").write_text('{"address": "tcp://127.0.0.1:1"}')
    with dask.config.set({"gmmdask.connect-timeout": 0.3}), pytest.raises(ClusterError, match=r"scheduler\.json"):
        open_executor(tmp_path / "scheduler.json")


def test_names_of_local_executors() -> None:
    assert isinstance(open_executor("threads"), Threads)
    assert open_executor("synchronous").tasks_at_once == 1
    executor = Threads(3)
    assert open_executor(executor) is executor
    for unknown in ("nowhere", 7, object()):
        with pytest.raises(ValueError, match="expected"):
            open_executor(unknown)
    with pytest.raises(ValueError, match="at least 1"):
        Threads(0)


def test_a_limit_bounds_the_tasks_at_once() -> None:
    with Threads(4) as executor:
        executor.limit_tasks(8)
        assert executor.tasks_at_once == 4
        executor.limit_tasks(2)
        assert executor.tasks_at_once == 2
        executor.limit_tasks(0)
        assert executor.tasks_at_once == 1


def test_one_thread_lasts_until_the_last_user_leaves() -> None:
    before = library_threads()
    outer, inner = one_thread(), one_thread()
    with outer:
        with inner:
            assert set(library_threads()) <= {1}
        assert set(library_threads()) <= {1}
    assert library_threads() == before


def test_every_thread_that_enters_computes_with_one_thread_and_gets_its_number_back() -> None:
    """OpenMP's number is the calling thread's own: limiting the first that enters would leave the second free."""

    def in_another_thread() -> tuple[set[int], set[int]]:
        with threadpool_limits(limits=2):
            with one_thread():
                inside = set(library_threads())
            return inside, {n for api, n in user_apis() if api == "openmp"}

    with one_thread(), ThreadPoolExecutor(1) as pool:
        inside, after = pool.submit(in_another_thread).result()
        assert inside <= {1}
        assert after <= {2}
        assert {n for api, n in user_apis() if api == "openmp"} <= {1}


def test_a_second_thread_is_limited_after_a_first_has_set_numbers() -> None:
    """threadpoolctl leaves OpenBLAS to the thread that set its number, for as long as that lives."""

    def blas_inside() -> set[int]:
        with one_thread():
            return {n for api, n in user_apis() if api == "blas"}

    with one_thread():
        pass
    with threadpool_limits(limits=2):
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(blas_inside).result() == {1}
        assert {n for api, n in user_apis() if api == "blas"} == {2}
    with threadpool_limits(limits=1):
        assert set(library_threads()) <= {1}


def user_apis() -> list[tuple[str, int]]:
    return [(library["user_api"], library["num_threads"]) for library in threadpool_info()]


def test_libraries_are_looked_for_again_only_when_modules_came(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[None] = []
    search = threads.ThreadpoolController
    monkeypatch.setattr(threads, "ThreadpoolController", lambda: looked.append(None) or search())
    threads._found.cache_clear()
    for name, times in (("gmmdask-test-one", 1), ("gmmdask-test-two", 2)):
        monkeypatch.setitem(sys.modules, name, threads)
        for _ in range(3):
            with one_thread():
                assert len(looked) == times


def test_parts_are_values() -> None:
    assert Part(1, 2, 3) == Part(1, 2, 3)
    assert len({Part(1, 2, 3), Part(1, 2, 3)}) == 1
