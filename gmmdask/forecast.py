"""What a fit will read and take, told before it begins; and whether the workers of a cluster can take it."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

from gmmdask.execution import Executor
from gmmdask.plan import Memory
from gmmdask.planning import driver_bytes, plan_fit, sample_sizes, set_aside
from gmmdask.settings import Settings
from gmmdask.sources import DataError, Source

WORKER_BYTES = 208 << 20  # its process, with Numba and all else that it imports: 196 MB after a fit of few rows
PAUSE = 0.8  # of a worker's memory, where Dask lets it take no more tasks
SMALLER_CHUNKS = "Store the data in smaller chunks"


def worker_bytes(task: int, tasks: int) -> int:
    """What a worker must be allowed to take that runs so many tasks at the same time, and is not to pause."""
    return int((task * tasks + WORKER_BYTES) / PAUSE)


def too_small(executor: Executor, task: int) -> tuple[str, int, int, int] | None:
    """A worker that may take less than its tasks: its name, bytes it may take, tasks at once, bytes that would do."""
    rooms = ((name, limit, tasks, worker_bytes(task, tasks)) for name, (limit, tasks) in executor.rooms.items())
    return next((room for room in rooms if room[1] < room[3]), None)


def check_rooms(source: Source, executor: Executor, task: int, remedy: str = SMALLER_CHUNKS) -> None:
    """DataError if a worker may take less memory than its tasks of so many bytes will."""
    if (found := too_small(executor, task)) is not None:
        name, limit, tasks, needed = found
        raise DataError(
            f"{source.name}: {name} may take {limit:,} bytes; a task needs {task:,}, and {tasks} at once with all else "
            f"{needed:,}. {remedy}, or give workers {needed:,} bytes each or fewer threads."
        )


def check_workers(source: Source, settings: Settings, executor: Executor, memory: Memory) -> None:
    """DataError if a worker may take less memory than its tasks will, with the setting that would fit."""
    if (found := too_small(executor, memory.task)) is None:
        return
    _, limit, tasks, _ = found
    allowed = max(0, int(PAUSE * limit) - WORKER_BYTES) // tasks
    smaller, remedy = limit_for(source, settings, allowed), SMALLER_CHUNKS
    with suppress(DataError):
        if plan_fit(source, replace(settings, memory_limit=smaller), executor)[1].task <= allowed:
            remedy = f"Set memory_limit={smaller:,}"
    check_rooms(source, executor, memory.task, remedy)


def limit_for(source: Source, settings: Settings, task: int) -> int:
    """The smallest limit under which tasks of so many bytes fit, and the driver, whose sample grows with it."""
    limit = 4 * task
    while (needed := driver_bytes(source, replace(settings, memory_limit=limit)) + task) > limit:
        limit = needed
    return limit


def forecast(source: Source, settings: Settings, executor: Executor) -> dict[str, Any]:
    """What a fit will read and take, as JSON values; sizes are in bytes, those of rows as they are once decoded.

    `reads_at_most` counts the first look, the last one of candidates, and no lap that finds its rows in memory.

    Raises
    ------
    DataError
        As of `plan_fit`.
    """
    plan, memory = plan_fit(source, settings, executor)
    sample, held_out = sample_sizes(source, settings)
    laps, whole = getattr(settings.algorithm, "max_iter", 0), source.n <= sample
    if settings.candidates:
        held_out = set_aside(source, settings, min(sample, source.n), whole)
    return {
        "data": source.name,
        "rows": source.n,
        "features": source.d,
        "dtype": str(source.dtype),
        "runs_on": executor.name,
        "parts": len(plan.parts),
        "chunk_rows": source.chunk_rows,
        "block_rows": plan.block_rows,
        "steps_per_lap": plan.steps if settings.algorithm.mini_batches else 1,
        "laps_at_most": laps,
        "reads_at_most": 1 if whole or memory.cache else 1 + laps + bool(settings.candidates),
        "bytes_per_pass": source.n * source.d * source.dtype.itemsize,
        "sample_rows": min(sample, source.n),
        "held_out_rows": held_out if settings.candidates else 0 if whole else min(held_out, source.n - sample),
        "task_bytes": memory.task,
        "tasks_at_once": memory.tasks,
        "driver_bytes": memory.driver,
        "cached_bytes": memory.cached,
        "peak_bytes": memory.peak,
        "memory_limit": settings.memory_limit,
    }
