"""Promise P4: memory is computed before anything runs, refused with numbers, and not exceeded."""

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from gmmdask import GaussianMixture, open_source
from gmmdask.algorithms import ALGORITHMS, Algorithm, Batch
from gmmdask.ambiguity import Ambiguity
from gmmdask.candidates import Contest
from gmmdask.covariance import FAMILIES
from gmmdask.estep import EStep, ESteps, available, peak_bytes, shared_bytes
from gmmdask.execution import Executor, Threads, one_thread
from gmmdask.execution.local import available_cores
from gmmdask.frame import Frame
from gmmdask.job import Job
from gmmdask.kernels import MISSING
from gmmdask.parameters import bytes_of
from gmmdask.pilot import Pilot
from gmmdask.plan import make_plan
from gmmdask.planning import OVERHEAD_BYTES, Memory, plan_fit
from gmmdask.scalable import Assigned, Round, most_candidates
from gmmdask.scalable import peak_bytes as scalable_bytes
from gmmdask.selection import pairs_of, settings_of
from gmmdask.settings import Settings
from gmmdask.sources import ArraySource, DataError, NpySource, Source
from gmmdask.sources.weights import weighted
from gmmdask.start import Start
from gmmdask.synthetic import random_mixture
from gmmdask.task import Block, Data
from gmmdask.testing.strategies import LAW, with_gaps

MB = 10**6


class Shaped(Source):
    """A source of some shape and chunks that holds no rows: plans are made before anything is read."""

    name = "rows"
    dtype = np.dtype("f8")

    def __init__(self, n: int, d: int, chunk_rows: int) -> None:
        self.n, self.d = n, d
        self.edges = np.append(np.arange(0, n, chunk_rows), n)

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def read(self, start: int, stop: int) -> Iterator[np.ndarray]:
        raise AssertionError("a plan reads nothing")

    def read_bytes(self, start: int, stop: int) -> int:
        return 3 * self.chunk_rows * self.d * 8


def settings(
    limit: int | None = None, k: int = 5, covariance_type: str = "full", n_init: int = 1, sample_rows: int | None = None
) -> Settings:
    return Settings(
        Start(covariance_type, k), Batch(), n_init=n_init, random_state=0, memory_limit=limit, sample_rows=sample_rows
    )


def traced(work: Callable[[], object]) -> int:
    """Most bytes that were allocated at once while `work` ran, NumPy's among them."""
    tracemalloc.start()
    try:
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        work()
        return tracemalloc.get_traced_memory()[1] - held
    finally:
        tracemalloc.stop()


# --- computed before, and enough -------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", available())
@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_an_e_step_takes_no_more_than_peak_bytes(covariance_type: str, kernel: str) -> None:
    for d, k, rows in [
        (1, 1, 128),
        (1, 64, 128),
        (2, 16, 512),
        (1, 200, 1024),
        (8, 3, 4096),
        (30, 2, 512),
        (16, 40, 2048),
    ]:
        mixture = random_mixture(k, d, covariance_type)
        mean, covariance = mixture.moments()
        frame, x = Frame.of(mixture.family, mean, covariance), np.random.default_rng(0).normal(size=(2 * rows, d))
        if kernel == MISSING:
            frame, x = (
                Frame.by_feature(mixture.family, mean, np.diag(covariance)),
                with_gaps(np.random.default_rng(1), x),
            )
        inside = frame.mixture_in(mixture)
        blocks = [Block(x[:rows], None, 0), Block(x[rows:], None, rows)]
        for runs in (1, 3):
            work = ESteps(((frame, EStep(inside, kernel)),) * runs, rows)
            with one_thread():
                work(blocks[:1])  # roots of covariances are kept with the mixture
                taken = traced(lambda work=work, blocks=blocks: work(blocks))
            allowed = peak_bytes(mixture.family, k, d, rows, runs, kernel=kernel)
            assert taken <= allowed, f"d={d}, K={k}, block of {rows} rows, {runs} runs: {taken:,} > {allowed:,} bytes"
            assert taken > 0.2 * allowed - 2 * MB  # a bound that is far off would refuse what fits


@pytest.mark.parametrize("kernel", available())
@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_e_steps_of_candidates_take_no_more_than_shared_bytes(covariance_type: str, kernel: str) -> None:
    """Two of each, as SQUAREM asks for; and the last pass where values are missing."""
    family = FAMILIES[covariance_type]
    for d, counts, rows in [(2, (1, 2, 3, 16), 512), (10, (2, 30), 1024)]:
        frame, x = Frame(np.zeros(d), np.ones(d), np.ones(d)), np.random.default_rng(0).normal(size=(2 * rows, d))
        if kernel == MISSING:
            x = with_gaps(np.random.default_rng(1), x)
        blocks = [Block(x[:rows], None, 0), Block(x[rows:], None, rows)]
        steps = [(frame, EStep(random_mixture(k, d, covariance_type), kernel)) for k in counts for _ in range(2)]
        works: list[Any] = [ESteps(tuple(steps), rows)]
        if kernel == MISSING:
            works.append(Ambiguity(tuple(steps[::2]), rows))
        allowed = shared_bytes([(family, k) for k in counts], d, rows, kernel)
        for work in works:
            with one_thread():
                work(blocks[:1])
                taken = traced(lambda work=work, blocks=blocks: work(blocks))
            assert 0.2 * allowed - 2 * MB < taken <= allowed, (type(work).__name__, d)


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize(("d", "chunk"), [(2, 1000), (8, 3000), (8, 200_000), (40, 500)])
def test_a_task_takes_no_more_than_the_plan_says(tmp_path: Path, d: int, chunk: int, with_weights: bool) -> None:
    rows, limit, k = np.random.default_rng(0).normal(size=(200_000 // d * 2, d)), 300 * MB, 6
    zarr.create_array(tmp_path / "rows", data=rows, chunks=(min(chunk, len(rows)), d), compressors=None)
    np.save(tmp_path / "rows.npy", rows)
    weights = np.arange(len(rows)) % 5.0
    zarr.create_array(tmp_path / "weights", data=weights, chunks=(max(1, chunk // 3),), compressors=None)
    for name in ("rows", "rows.npy"):
        source = weighted(open_source(tmp_path / name), tmp_path / "weights" if with_weights else None)
        plan, memory = plan_fit(source, settings(limit, k), Threads(1))
        mixture = random_mixture(k, d, "full")
        frame = Frame.of(mixture.family, *mixture.moments())
        work = ESteps(((frame, EStep(frame.mixture_in(mixture), "products")),), plan.block_rows)
        part = plan.parts[0]
        for each in (Pilot(d, source.dtype, 0, 0.0 if with_weights else 0), work):
            data = Data(source, replace(plan, parts=(part,)), Threads(1))
            data.sums(lambda blocks: len(list(islice(blocks, 1))))

            def task(each: Any = each, data: Data = data) -> None:
                data.sums(each)

            with one_thread():
                assert traced(task) <= memory.task, (name, each)


def whole_fit(data: Source, chosen: Settings, threads: int) -> tuple[int, Memory]:
    """Bytes that a fit allocates at most, and what its plan says."""
    with Threads(threads) as executor:
        job = Job(data, chosen, executor, lambda event: None)
        return traced(job.run), job.memory


@pytest.mark.parametrize(("covariance_type", "with_weights"), [*((name, False) for name in FAMILIES), ("full", True)])
def test_a_fit_from_zarr_stays_below_its_plan(tmp_path: Path, covariance_type: str, with_weights: bool) -> None:
    """Without what the plan adds for things that are not allocated by Python: the bound is on data alone."""
    truth = random_mixture(4, 6, covariance_type)
    rows = truth.sample(60_000, np.random.default_rng(0))[0]
    zarr.create_array(tmp_path / "rows", data=rows, chunks=(2000, 6), compressors=None)
    limit = 160 * MB
    chosen = Settings(Start(covariance_type, 4), Batch(tol=0, max_iter=2), n_init=2, random_state=0, memory_limit=limit)
    weights = np.random.default_rng(1).gamma(1.0, size=len(rows)) if with_weights else None
    source = weighted(open_source(tmp_path / "rows"), weights)
    whole_fit(source, chosen, 3)  # imports, caches
    taken, memory = whole_fit(source, chosen, 3)
    assert memory.peak <= limit
    assert taken <= memory.peak - OVERHEAD_BYTES


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_passes_of_k_means_parallel_take_no_more_than_its_peak_bytes(covariance_type: str) -> None:
    """Of as many candidates as there may be, each the nearest of some row."""
    for d, k, rows in [(1, 1, 512), (2, 30, 1024), (16, 10, 2048)]:
        family, x = FAMILIES[covariance_type], np.random.default_rng(0).normal(size=(4 * rows, d))
        frame = Frame.of(family, np.zeros(d), np.eye(d))
        points = np.random.default_rng(1).normal(size=(most_candidates(k), d))
        blocks = [Block(x[a : a + rows], None, a) for a in range(0, 4 * rows, rows)]
        for work in (Round(frame, points, 0, 2.0 * k, rows), Assigned(covariance_type, frame, points, rows)):
            with one_thread():
                taken = traced(lambda work=work, blocks=blocks: work(blocks))
            assert taken <= scalable_bytes(family, k, d, rows), (type(work).__name__, d, k, rows)


SEARCHES = [("k-means||", None, "error"), ("kmeans", "split-merge", "error"), ("kmeans", None, "em")]


@pytest.mark.parametrize(("method", "refine", "missing"), SEARCHES)
def test_fits_that_search_more_stay_below_their_plan(
    tmp_path: Path, method: str, refine: str | None, missing: str
) -> None:
    rows = random_mixture(4, 6, "full").sample(20_000, np.random.default_rng(0))[0]
    if missing == "em":
        rows = with_gaps(np.random.default_rng(1), rows)
    zarr.create_array(tmp_path / "rows", data=rows, chunks=(2000, 6), compressors=None)
    known: dict[str, Any] = {"random_state": 0, "sample_rows": 4000, "refine": refine, "missing": missing}
    chosen = Settings(Start("full", 4, method), Batch(tol=0, max_iter=1), **known)
    whole_fit(open_source(tmp_path / "rows"), chosen, 2)  # imports, caches
    taken, memory = whole_fit(open_source(tmp_path / "rows"), chosen, 2)
    assert taken <= memory.peak - OVERHEAD_BYTES


@pytest.mark.parametrize(
    ("sample_rows", "missing", "refine"),
    [
        (1500, "em", None),
        pytest.param(1500, "error", None, marks=pytest.mark.slow),
        pytest.param(None, "em", None, marks=pytest.mark.slow),
        pytest.param(1500, "em", "split-merge", marks=pytest.mark.slow),
        pytest.param(None, "em", "split-merge", marks=pytest.mark.slow),
    ],
)
def test_candidates_stay_below_their_plan(
    tmp_path: Path, sample_rows: int | None, missing: str, refine: str | None
) -> None:
    rows = random_mixture(3, 6, "full").sample(5000, np.random.default_rng(0))[0]
    if missing == "em":
        rows = with_gaps(np.random.default_rng(1), rows)
    zarr.create_array(tmp_path / "rows", data=rows, chunks=(1000, 6), compressors=None)
    known: dict[str, Any] = {"random_state": 0, "sample_rows": sample_rows, "refine": refine, "missing": missing}
    like, source = GaussianMixture(tol=0, max_iter=1, **known), open_source(tmp_path / "rows")
    chosen = settings_of(source, pairs_of((2, 3), "full"), like)
    with Threads(2) as executor:
        first, second = (Contest(Job(source, chosen, executor, lambda event: None), 1e-4) for _ in range(2))
        first.run()  # imports, caches
        assert traced(second.run) <= second.job.memory.peak - OVERHEAD_BYTES


def test_the_sample_of_a_fit_that_is_all_sample_is_in_the_plan() -> None:
    rows = np.random.default_rng(0).normal(size=(10_000, 4))
    chosen = Settings(Start("full", 30, "random"), Batch(tol=0, max_iter=1), random_state=0, sample_rows=10_000)
    whole_fit(ArraySource(rows), chosen, 1)
    taken, memory = whole_fit(ArraySource(rows), chosen, 1)
    assert taken <= memory.peak - OVERHEAD_BYTES


# --- refused with numbers --------------------------------------------------------------------------------------

TOO_BIG = {
    "a chunk": (Shaped(4_000_000, 8, 1_000_000), settings(100 * MB)),
    "no room at all": (Shaped(10_000, 2, 1000), settings(1000)),
    "nothing": (Shaped(10_000, 2, 1000), settings(0)),
    "the driver": (Shaped(10_000, 2, 1000), settings(90 * MB)),
    "the statistics": (Shaped(10**7, 200, 1000), settings(100 * MB, k=100)),
    "the sample": (Shaped(10**7, 10, 1000), settings(130 * MB, sample_rows=10**6)),
    "random responsibilities": (
        Shaped(10**7, 2, 1000),
        Settings(Start("diag", 200, "random"), Batch(), memory_limit=120 * MB),
    ),
    "many starts": (Shaped(10**7, 30, 1000), settings(100 * MB, n_init=20)),
}


def refused(source: Source, chosen: Settings) -> int:
    """The limit that a refusal says would fit."""
    with pytest.raises(DataError, match=rf"^rows: .*bytes.*memory_limit={chosen.memory_limit:,}") as caught:
        plan_fit(source, chosen, Threads(1))
    return int(str(caught.value).rpartition("memory_limit=")[2].split()[0].strip(".,").replace(",", ""))


@pytest.mark.parametrize("name", TOO_BIG)
def test_what_does_not_fit_is_refused_with_the_limit_that_would(name: str) -> None:
    source, chosen = TOO_BIG[name]
    enough = refused(source, chosen)
    assert enough > (chosen.memory_limit or 0)
    fits = Settings(**{**vars(chosen), "memory_limit": enough})
    _, memory = plan_fit(source, fits, Threads(1))
    assert memory.task * 1 + memory.driver <= enough
    refused(source, Settings(**{**vars(chosen), "memory_limit": int(0.8 * enough)}))  # and it is not far too much


@LAW
@given(
    chunks=st.integers(2, 200),
    chunk_rows=st.integers(100, 10**6),
    d=st.integers(1, 40),
    k=st.integers(1, 60),
    algorithm=st.sampled_from([Batch(), *(kind() for kind in ALGORITHMS.values())]),
    method=st.sampled_from(["kmeans", "random"]),
    cache=st.sampled_from(["never", "auto", "always"]),
    limit=st.integers(0, 10**9),
)
def test_one_limit_is_named_and_all_fits_under_it(
    chunks: int, chunk_rows: int, d: int, k: int, algorithm: Algorithm, method: str, cache: str, limit: int
) -> None:
    source, start = Shaped(chunks * chunk_rows, d, chunk_rows), Start("full", k, method)
    chosen = Settings(start, algorithm, memory_limit=limit, cache=cache)
    try:
        plan_fit(source, chosen, Threads(1))
    except DataError:
        enough = refused(source, chosen)
        assert enough > limit
        assert plan_fit(source, replace(chosen, memory_limit=enough), Threads(1))[1].peak <= enough


@given(limit=st.integers(1, 10**15))
def test_a_limit_may_be_given_as_messages_print_it(limit: int) -> None:
    assert bytes_of(f"{limit:,}") == bytes_of(f"{limit:_}") == bytes_of(str(limit)) == bytes_of(limit) == limit
    assert bytes_of(f" {limit:,} B") == limit


@pytest.mark.parametrize("text", ["1,5GB", "1,23", "1,2345", "12,,345", "1234,567", "much", "1,234.5,6"])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(ValueError, match=rf"memory_limit='{text}': expected bytes, such as 1,500,000,000"):
        bytes_of(text)


def test_storage_chunks_are_blamed_where_they_are_to_blame() -> None:
    with pytest.raises(DataError, match=r"192,000,000 hold storage chunks of 1000000 rows.*smaller chunks"):
        plan_fit(*TOO_BIG["a chunk"], Threads(1))


def test_the_estimator_refuses_before_it_reads(tmp_path: Path) -> None:
    """A file whose size is right and whose blocks were never written takes no disk and cannot be read in time."""
    mapped = np.lib.format.open_memmap(tmp_path / "rows.npy", mode="w+", dtype="f8", shape=(10**8, 8))
    del mapped
    told: list[object] = []
    with pytest.raises(DataError, match=r"rows\.npy: .*memory_limit=1,000"):
        GaussianMixture(2, memory_limit="1KB", callbacks=(told.append,)).fit(tmp_path / "rows.npy")
    assert told == []


def test_rows_are_counted_before_memory() -> None:
    with pytest.raises(DataError, match="n_components = 5, n_samples = 4"):
        plan_fit(Shaped(4, 2, 2), settings(1), Threads(1))


# --- what shapes the plan --------------------------------------------------------------------------------------


def test_blocks_shrink_until_a_task_fits_in_a_quarter_of_the_limit() -> None:
    source, found = Shaped(10**6, 40, 100), []
    for limit in (None, 800 * MB, 400 * MB, 300 * MB, 225 * MB):
        plan, memory = plan_fit(source, settings(limit, k=20), Threads(1))
        found.append(plan.block_rows)
        if limit is not None:
            assert memory.task <= limit // 4
            assert memory.peak <= limit
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0]
    assert plan.parts == plan_fit(source, settings(k=20), Threads(1))[0].parts  # the limit never moves parts


@pytest.mark.parametrize("limit", [None, 300 * MB, 2000 * MB])
def test_the_plan_never_depends_on_threads_or_the_machine(monkeypatch: pytest.MonkeyPatch, limit: int | None) -> None:
    source = Shaped(10**6, 20, 1000)
    plans = [plan_fit(source, settings(limit), Threads(n))[0] for n in (1, 2, 16, 256)]
    with monkeypatch.context() as patch:
        for module, name in (("os", "cpu_count"), ("os", "sysconf"), ("gmmdask.execution.local", "available_cores")):
            patch.setattr(f"{module}.{name}", lambda *args: 1)
        patch.setattr("resource.getrusage", lambda who: pytest.fail("the plan asked for the memory of this process"))
        plans.append(plan_fit(source, settings(limit), Threads())[0])
    assert all(plan == plans[0] for plan in plans)


@pytest.mark.parametrize("threads", [1, 2, 64, 500])
def test_fewer_tasks_run_at_once_where_more_would_not_fit(threads: int) -> None:
    executor = Threads(threads)
    _, memory = plan_fit(Shaped(10**7, 20, 1000), settings(300 * MB), executor)
    assert memory.peak <= 300 * MB
    assert 1 <= memory.tasks == executor.tasks_at_once <= threads
    if memory.tasks < threads:
        assert memory.peak + memory.task > 300 * MB


def test_without_a_limit_all_threads_run() -> None:
    executor = Threads(7)
    assert plan_fit(Shaped(10**6, 20, 1000), settings(), executor)[1].tasks == 7
    assert Threads().tasks_at_once == available_cores()


@pytest.mark.parametrize("source", [Shaped(10**6, 3, 10**6), Shaped(10**6, 3, 7)], ids=["one chunk", "many"])
def test_the_memory_of_a_task_does_not_grow_with_the_part(source: Source) -> None:
    short = Shaped(source.n // 50, source.d, min(source.chunk_rows, source.n // 50))
    long = Shaped(source.n * 50, source.d, short.chunk_rows)
    tasks = [plan_fit(s, settings(), Threads(1))[1].task for s in (short, long)]
    assert tasks[0] == tasks[1]


def test_reads_of_a_small_array_are_counted_as_what_they_are(tmp_path: Path) -> None:
    rows = np.ones((4000, 2))
    np.save(tmp_path / "rows.npy", rows)
    zarr.create_array(tmp_path / "rows", data=rows, chunks=(500, 2), fill_value=-1)
    zarr.create_array(tmp_path / "tall", data=rows, chunks=(100_000, 2), fill_value=-1)
    small, stored, tall = (open_source(tmp_path / name) for name in ("rows.npy", "rows", "tall"))
    part = make_plan(stored.edges, 2, 512).parts[0]
    assert isinstance(small, NpySource)
    assert small.read_bytes(0, 500) == 2 * 500 * 16
    assert stored.read_bytes(part.start, part.stop) == 4 * 500 * 16
    assert tall.read_bytes(0, 4000) >= 100_000 * 16  # a chunk is decoded whole, however few rows are in it


# --- rows that stay ----------------------------------------------------------------------------------------------


def cached(source: Source, cache: str, limit: int | None, executor: Executor | None = None) -> tuple[bool, int]:
    chosen = Settings(Start("full", 3), Batch(), memory_limit=limit, cache=cache)
    memory = plan_fit(source, chosen, executor or Threads(1))[1]
    assert limit is None or memory.peak <= limit
    return memory.cache, memory.cached


def test_rows_stay_in_memory_where_they_fit() -> None:
    small, large = Shaped(10**6, 8, 1000), Shaped(10**8, 8, 1000)
    size = 64 * 10**6
    assert cached(small, "auto", None) == (True, size)
    assert cached(large, "auto", None) == (False, 0)
    assert cached(small, "never", None) == (False, 0)
    assert cached(small, "auto", 400 * MB) == (True, size)
    assert cached(small, "auto", 180 * MB) == (False, 0)
    assert cached(large, "always", None) == (True, 100 * size)
    assert cached(Shaped(5000, 8, 1000), "always", None) == (False, 0)  # the sample is all of it
    with pytest.raises(DataError, match=r"cache='always' would keep 64,000,000 bytes.*Allow memory_limit=") as caught:
        cached(small, "always", 180 * MB)
    enough = int(
        str(caught.value).rpartition("memory_limit=")[2].split(",  ")[0].split(" ")[0].strip(",").replace(",", "")
    )
    assert cached(small, "always", enough) == (True, size)


def test_a_cache_replaces_reads_and_moves_no_bit(tmp_path: Path) -> None:
    rows = random_mixture(3, 4, "full").sample(30_000, np.random.default_rng(0))[0]
    zarr.create_array(tmp_path / "rows", data=rows, chunks=(370, 4), compressors=None)
    reads: dict[str, int] = {}
    models = {}
    for cache in ("never", "always"):
        source = open_source(tmp_path / "rows")
        reads[cache] = 0
        plain = source.read

        def counting(start: int, stop: int, cache: str = cache, plain: Any = plain) -> Iterator[np.ndarray]:
            reads[cache] += stop - start
            return plain(start, stop)

        source.read = counting  # type: ignore[method-assign]
        settings: dict[str, Any] = {"sample_rows": 2000, "random_state": 0, "tol": 0, "max_iter": 3}
        models[cache] = GaussianMixture(3, cache=cache, **settings).fit(source, scheduler=Threads(2))
    assert reads == {"never": 4 * 30_000, "always": 30_000}
    assert models["never"].means_.tobytes() == models["always"].means_.tobytes()
    assert models["never"].covariances_.tobytes() == models["always"].covariances_.tobytes()
