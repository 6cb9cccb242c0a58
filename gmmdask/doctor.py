"""Whether machines, data and settings go together, before a fit: findings, each with what to do about it."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from gmmdask.compiled import importable
from gmmdask.execution import Executor, setting
from gmmdask.forecast import worker_bytes
from gmmdask.pilot import REMEDY, Findings, Pilot
from gmmdask.planning import plan_fit
from gmmdask.record import version, versions
from gmmdask.settings import Settings
from gmmdask.sources import DataError, Source
from gmmdask.task import Block, cut_blocks

PLACES = 16  # all over the data, where rows are looked at
LOOK_SECONDS = 20.0
MB = 1e6
SMALL_CHUNK, LARGE_CHUNK = 256 << 10, 256 << 20  # bytes of rows: opening one costs more than reading it; a task holds 4


class Verdict(Enum):
    """What follows from a finding: nothing, something that would help, or something without which no fit should run."""

    FINE = "fine"
    ADVICE = "advice"
    CHANGE = "change"


@dataclass(frozen=True)
class Finding:
    """What was checked, what was found, and what to do about it (empty where nothing has to be done)."""

    check: str
    verdict: Verdict
    found: str
    todo: str = ""


Worker = dict[str, Any]  # what a process says of itself: versions, blas, and on a worker threads and memory


def examine(
    executor: Executor, source: Source | None = None, settings: Settings | None = None, missing: bool = False
) -> Iterator[Finding]:
    """All findings, the cheap ones first.

    Parameters
    ----------
    executor : not entered; of a cluster, no fit could use it where packages are missing.
    source : None for a look at the machines alone.
    settings : of the fit that is planned; None checks no memory.
    missing : whether NaN is a missing value, and nothing to be changed.
    """
    client = getattr(executor, "client", None)
    here, workers = of_process(), {}
    if client is not None:
        with suppress(TimeoutError):
            client.wait_for_workers(1, timeout=setting("connect-timeout"))
        there = client.run(of_worker, on_error="return")
        workers = {name: told for name, told in there.items() if isinstance(told, dict)}
        yield packages(here, there, on_scheduler(client))
    yield kernel(here)
    yield threads(here, workers, executor)
    if source is None:
        return
    if client is not None and workers:
        if source.entrusted is not None:
            executor.deliver(source.entrusted.parcel)
        yield readable(source, client.run(reads, source, workers=list(workers), on_error="return"))
    yield layout(source, sum(told["threads"] for told in workers.values()) or executor.tasks_at_once)
    yield from rows(source, missing)
    if settings is not None:
        yield memory(source, settings, executor, workers)


# --- machines ---------------------------------------------------------------------------------------------------


def of_process() -> Worker:
    """Versions of what decides the bits, and threads of BLAS libraries."""
    blas = {found["internal_api"]: found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"}
    numba = version("numba") if importable() else "absent"
    return {"versions": {**versions("distributed", "numcodecs"), "numba": numba}, "blas": blas}


def of_worker(dask_worker: Any) -> Worker:
    limit = dask_worker.memory_manager.memory_limit
    return {**of_process(), "threads": dask_worker.state.nthreads, "memory": limit or None}


def on_scheduler(client: Any) -> Worker | Exception:
    """What the scheduler's process says of itself, or what kept it from saying so."""
    try:
        found: Worker = client.run_on_scheduler(of_process)
    except Exception as error:  # whatever it is that stands in its way there
        return error
    return found


def packages(here: Worker, workers: Mapping[str, Worker | Exception], scheduler: Worker | Exception) -> Finding:
    """Whether the scheduler and all workers have the versions that are here: others give other bits, or errors."""
    if not workers:
        return Finding("packages", Verdict.CHANGE, "the scheduler has no workers.", "Start workers.")
    wrong = []
    for name, told in {"scheduler": scheduler, **workers}.items():
        if isinstance(told, Exception):
            wrong.append(f"{name}: gmmdask's check does not run there ({type(told).__name__}: {told})")
            continue
        theirs = told["versions"]
        names = [one for one in here["versions"] if name != "scheduler" or one not in ("numba", "machine")]
        differ = [one for one in names if theirs.get(one) != here["versions"][one]]
        if differ:
            versions = (f"{one} {theirs.get(one, 'absent')}, here {here['versions'][one]}" for one in differ)
            wrong.append(f"{name}: {'; '.join(versions)}")
    if wrong:
        todo = "Install the same versions, those of here, on the scheduler and all workers."
        return Finding("packages", Verdict.CHANGE, ". ".join(wrong), todo)
    return Finding("packages", Verdict.FINE, f"the same here, on the scheduler and on {count(workers, 'worker')}")


def kernel(here: Worker) -> Finding:
    """Whether fits here run on the compiled kernel."""
    numba, choice = here["versions"]["numba"], setting("kernel")
    if numba == "absent" and choice != "numpy":
        todo = 'pip install "gmmdask[fast]", here and on every worker, makes passes about twice as fast.'
        verdict = Verdict.CHANGE if choice == "compiled" else Verdict.ADVICE
        return Finding("kernel", verdict, f"numba is absent, and gmmdask.kernel is {choice}.", todo)
    told = "NumPy's, as gmmdask.kernel says" if choice == "numpy" else f"compiled, numba {numba}"
    return Finding("kernel", Verdict.FINE, told)


def threads(here: Worker, workers: Mapping[str, Worker], executor: Executor) -> Finding:
    """Tasks at once, and threads of BLAS, which a fit limits to one: here while it runs, on workers for good."""
    blas = ", ".join(f"{name} {n}" for name, n in here["blas"].items()) or "no BLAS found"
    told = f"{executor.name}; BLAS threads outside of fits: {blas} here"
    if workers:
        most = max((n for worker in workers.values() for n in worker["blas"].values()), default=1)
        told += f", at most {most} on {count(workers, 'worker')}"
    return Finding("threads", Verdict.FINE, told)


def count(things: Any, name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


# --- data -------------------------------------------------------------------------------------------------------


async def reads(source: Source) -> float | Exception:
    """Seconds that the first rows take a worker, or why they cannot be read; beside its event loop."""
    try:
        return await asyncio.to_thread(timed, partial(first_piece, source, 0))
    except Exception as error:  # raised, it would fill the worker's log
        return error


def timed(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def first_piece(source: Source, chunk: int) -> np.ndarray:
    """What one read brings of a storage chunk."""
    return next(iter(source.read(int(source.edges[chunk]), int(source.edges[chunk + 1]))))


def readable(source: Source, workers: Mapping[str, Any]) -> Finding:
    """Whether every worker can open the data and read a chunk of it."""
    failed = {name: error for name, error in workers.items() if isinstance(error, Exception)}
    if failed:
        name, error = next(iter(failed.items()))
        found = f"{len(failed)} of {count(workers, 'worker')} cannot read it, the first is {name}: {error}"
        todo = "Put the data where all workers find it under this address: a shared file system or an object store."
        return Finding("data on workers", Verdict.CHANGE, found, todo)
    slowest = max(workers.values(), default=0.0)
    return Finding(
        "data on workers", Verdict.FINE, f"{count(workers, 'worker')} read a chunk, the slowest in {slowest:.2g} s"
    )


def layout(source: Source, at_once: int) -> Finding:
    """Whether chunks are neither tiny nor huge, enough for all threads, and hold whole rows."""
    told, row = source.fingerprint(), source.d * source.dtype.itemsize
    chunks, size = len(source.edges) - 1, source.chunk_rows * row
    inner = told.get("chunks") or [source.chunk_rows, source.d]
    shards = "" if told.get("grid", inner) == inner else f" (shards; chunks of {inner[0]:,} in them)"
    found = f"{source.n:,} rows x {source.d} of {source.dtype}: {chunks:,} of up to {source.chunk_rows:,} rows{shards}"
    todo = []
    if size < SMALL_CHUNK and chunks > PLACES and told["kind"] != "npy":
        todo.append(f"A chunk of {size / MB:.2g} MB costs more to open than to read: write ones, or shards, of 8 MB.")
    if inner[0] * row > LARGE_CHUNK:
        todo.append(f"A task holds several chunks of {inner[0] * row / MB:,.0f} MB: write chunks of 8 to 64 MB.")
    if chunks < at_once:
        todo.append(f"Tasks read whole chunks: {at_once - chunks} of {at_once} threads will have nothing to do.")
    if inner[1] < source.d:
        todo.append(f"Rows are cut into {-(-source.d // inner[1])} chunks: write chunks of all {source.d} features.")
    return Finding("chunks", Verdict.ADVICE if todo else Verdict.FINE, found, " ".join(todo))


def rows(source: Source, missing: bool = False) -> Iterator[Finding]:
    """How fast rows from all over the data are read, what another codec would do, and in which order they are."""
    chunks = len(source.edges) - 1
    chosen = np.unique(np.linspace(0, chunks - 1, min(PLACES, chunks)).astype(int))
    pieces: dict[int, np.ndarray] = {}
    began = time.perf_counter()
    for chunk in np.random.default_rng(0).permutation(chosen).tolist():
        try:
            pieces[chunk] = first_piece(source, chunk)
        except (DataError, OSError) as error:
            yield Finding("reading", Verdict.CHANGE, str(error))
            return
        if time.perf_counter() - began > LOOK_SECONDS:
            break
    rate = sum(piece.nbytes for piece in pieces.values()) / (time.perf_counter() - began)
    told = f"{rate / MB:,.0f} MB of rows a second in one thread, from {count(pieces, 'place')}"
    size = source.n * source.d * source.dtype.itemsize
    yield Finding("reading", Verdict.FINE, f"{told}: {size / rate:,.0f} s a pass")
    if source.fingerprint()["kind"] == "zarr":
        yield codecs(source, pieces)
    yield order(source, pieces, missing)


def codecs(source: Source, pieces: Mapping[int, np.ndarray]) -> Finding:
    """What rows cost as they are stored, and encoded anew in memory in other ways: bytes, and reading them back."""
    import numcodecs

    chunk, piece = next(iter(pieces.items()))
    now = piece.nbytes / timed(partial(first_piece, source, chunk)) / MB
    raw, told, best = np.ascontiguousarray(piece[: max(1, LARGE_CHUNK // piece[:1].nbytes)]), [], 0.0
    ways = {"lz4": numcodecs.Blosc("lz4", 1, numcodecs.Blosc.SHUFFLE), "zstd": numcodecs.Blosc("zstd", 3)}
    for name, codec in ways.items():
        encoded = codec.encode(raw)
        speed = raw.nbytes / timed(partial(codec.decode, encoded)) / MB
        told.append(f"blosc {name} {len(encoded) / raw.nbytes:.0%} of the bytes, decoded at {speed:,.0f} MB/s")
        best = max(best, speed)
    stored = ", ".join(str(name).partition("(")[0] for name in source.fingerprint()["codecs"]) or "no codec"
    found = f"{stored}: read again at {now:,.0f} MB/s; in memory: {'; '.join(told)}"
    slow = now < 500 and best > 4 * now
    todo = "Another codec would be read faster, unless the storage itself is what takes the time." if slow else ""
    return Finding("codec", Verdict.ADVICE if slow else Verdict.FINE, found, todo)


def order(source: Source, pieces: Mapping[int, np.ndarray], missing: bool) -> Finding:
    """Whether rows that were looked at are finite, and in random order."""
    size = max(2, min(max(map(len, pieces.values())) // 4, 4096))

    def blocks() -> Iterator[Block]:
        for chunk, piece in sorted(pieces.items()):
            yield from cut_blocks([piece[: max(size, len(piece) // size * size)]], int(source.edges[chunk]), size)

    seen: Findings = Pilot(source.d, np.dtype(np.float64), 0, 0, missing=missing)(blocks())
    if seen.n_bad:
        what, remedy = ("infinity", "") if missing else ("NaN or infinity", f" {REMEDY}")
        found = f"{what} in {seen.n_bad:,} of the rows that were looked at, the first is row {seen.first_bad}"
        return Finding("rows", Verdict.CHANGE, found, f"Drop or impute these rows first.{remedy}")
    times = f"means of {seen.blocks} blocks vary {seen.order_ratio:.2g} times as much as shuffled rows' would"
    if seen.is_sorted:
        todo = "Passes do not mind, and mini-batches mix parts of the data; streams learn best from rows shuffled once."
        return Finding("rows", Verdict.ADVICE, f"sorted, or drifting: {times}", todo)
    return Finding("rows", Verdict.FINE, f"finite and in random order: {times}")


# --- memory -----------------------------------------------------------------------------------------------------


def memory(source: Source, settings: Settings, executor: Executor, workers: Mapping[str, Worker]) -> Finding:
    """Whether the planned fit has enough memory: in this process, and on every worker for a task of each thread."""
    from distributed.system import MEMORY_LIMIT

    try:
        _, plan = plan_fit(source, settings, executor)
    except DataError as error:
        return Finding("memory", Verdict.CHANGE, str(error))
    told = f"a task {plan.task / MB:,.0f} MB, this process {plan.peak / MB:,.0f} MB of {MEMORY_LIMIT / MB:,.0f}"
    if plan.peak > MEMORY_LIMIT:
        return Finding("memory", Verdict.CHANGE, told, "Set a --memory-limit, a smaller sample, or fewer threads.")
    for name, worker in workers.items():
        needed = worker_bytes(plan.task, worker["threads"])
        if worker["memory"] is not None and worker["memory"] < needed:
            has = f"{name} has {worker['memory'] / MB:,.0f} MB for {count(range(worker['threads']), 'thread')}"
            todo = f"Give workers {needed:,} bytes each, or fewer threads, or store the rows in smaller chunks."
            return Finding("memory", Verdict.CHANGE, f"{told}; {has}", todo)
    return Finding("memory", Verdict.FINE, told)
