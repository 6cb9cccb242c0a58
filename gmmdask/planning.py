"""What a fit will do and take, from data and settings alone, before anything is read."""

from dataclasses import replace

from gmmdask import scalable
from gmmdask.algorithms import enough_rows
from gmmdask.competition import LEAST_STARTS
from gmmdask.estep import peak_bytes
from gmmdask.execution import Executor
from gmmdask.initialise import filling_bytes
from gmmdask.kernels import block_rows
from gmmdask.plan import Memory, Plan, interleaved, make_plan
from gmmdask.settings import Settings
from gmmdask.sources import DataError, Source
from gmmdask.stats import Layout

SAMPLE_BYTES = 64 << 20
MIN_BLOCK_ROWS = 128
MIN_SAMPLE_ROWS = 10_000
MIN_HELD_OUT_ROWS = 1_000
COMPILER_BYTES = 48 << 20  # what Numba allocates; the pages of its libraries are given back when memory is short
WINDOW_BYTES = 256 << 20  # of float64 rows that are in flight together where a lap is made of mini-batches
CACHE_BYTES = 1 << 30  # of rows as stored, that are kept where nothing else is said
STEP_ROWS = 1 << 18  # of a mini-batch at most: more steps cost little, and every one is an M-step
ADDED = 16  # statistics of candidates that wait to be added: the tree has a fan-in of 8, and levels
MIN_JUDGES = 25_000  # held-out rows that tell candidates apart, if they are no more than a quarter of all rows
OVERHEAD_BYTES = 96 << 20  # modules imported on the way, stacks of threads, and what the allocator keeps


def sample_sizes(source: Source, settings: Settings) -> tuple[int, int]:
    """Rows of the sample and of the held-out rows: functions of the data's shape and the settings.

    Candidates set rows of their sample aside themselves: see `set_aside`.
    """
    wanted, held_out = drawn(source, settings)
    return (wanted + held_out, 0) if settings.candidates else (wanted, held_out)


def drawn(source: Source, settings: Settings) -> tuple[int, int]:
    """Rows that starts are fitted to, and rows beside them, if there are as many. Candidates take all that fit."""
    d, parameters = source.d, settings.start.n_parameters(source.d)
    bytes_allowed = SAMPLE_BYTES if settings.memory_limit is None else min(SAMPLE_BYTES, settings.memory_limit // 16)
    most = max(1, bytes_allowed // (8 * d))
    wanted = settings.sample_rows or min(max(MIN_SAMPLE_ROWS, 100 * parameters), most)
    if settings.candidates:
        if settings.sample_rows is None and source.n <= most:
            return source.n, 0
        return wanted, min(source.n // 4, max(min(MIN_JUDGES, most), wanted // 3))
    return wanted, max(MIN_HELD_OUT_ROWS, wanted // 10)


def set_aside(source: Source, settings: Settings, rows: int, whole: bool) -> int:
    """How many of the `rows` of the sample judge candidates: a third where these are all rows."""
    return rows // 3 if whole else min(drawn(source, settings)[1], 3 * rows // 4)


def fit_plan(source: Source, settings: Settings) -> Plan:
    """The plan of the passes, before memory has a say in the rows of a block."""
    k, d, algorithm = settings.start.n_components, source.d, settings.algorithm
    rows = min(block_rows(family, d, n_components) for family, n_components in settings.company)
    if not algorithm.mini_batches:
        return make_plan(source.edges, d, rows)
    enough = enough_rows(k, settings.start.n_parameters(d))
    step_rows = max(enough, min(STEP_ROWS, source.n // algorithm.mini_batches))
    limit = settings.memory_limit
    window = WINDOW_BYTES if limit is None else min(WINDOW_BYTES, limit // 4)
    return interleaved(source.edges, d, rows, step_rows, window)


def plan_fit(source: Source, settings: Settings, executor: Executor) -> tuple[Plan, Memory]:
    """The plan of a fit and the memory it will take; nothing has been read yet.

    Blocks shrink until a task fits in a quarter of `memory_limit`, and beside the driver.

    Raises
    ------
    DataError
        If what cannot shrink does not fit: storage chunks, the sample, the statistics, or rows that are always kept.
    """
    k, limit = max(k for _, k in settings.company), settings.memory_limit
    if source.n < k:
        raise DataError(
            f"{source.name}: Expected n_samples >= n_components but got n_components = {k}, n_samples = {source.n}. "
            "Ask for fewer components."
        )
    if settings.sample_rows is not None and settings.sample_rows < k:
        raise DataError(
            f"{source.name}: a sample of sample_rows={settings.sample_rows} rows cannot start {k} components. Set "
            f"sample_rows to {k} or more, better {100 * k}."
        )
    plan, task, driver = shrunk(source, settings)
    cache, cached = caching(source, settings, executor, CACHE_BYTES if limit is None else limit - driver - task)
    if limit is not None:
        if bytes_needed(task, driver, cached) > limit:
            raise too_little(source, settings, executor)
        executor.limit_tasks(max(1, (limit - driver - cached) // task))
    return plan, Memory(task, driver, executor.tasks_at_once, cache, cached)


def shrunk(source: Source, settings: Settings) -> tuple[Plan, int, int]:
    """The plan with blocks that fit, if blocks of any size do; bytes of a task, and of the driver."""
    plan, limit, driver = fit_plan(source, settings), settings.memory_limit, driver_bytes(source, settings)
    rows, reading = plan.block_rows, reading_bytes(source, plan)
    if limit is not None:
        while reading + rows_bytes(source, settings, rows) > min(limit // 4, limit - driver) and rows > MIN_BLOCK_ROWS:
            rows //= 2
    return replace(plan, block_rows=rows), reading + rows_bytes(source, settings, rows), driver


def reading_bytes(source: Source, plan: Plan) -> int:
    """Of storage chunks, as a task holds them at most."""
    return max(source.read_bytes(part.start, part.stop) for part in plan.parts)


def rows_bytes(source: Source, settings: Settings, rows: int) -> int:
    """Of blocks of so many rows and the work on them, in one task."""
    family, k, d = settings.family, settings.start.n_components, source.d
    pilot = 8 * rows * (3 * d + 4) + 24 * d * d + (27 * rows * d if settings.missing == "em" else 0)
    weighing = 0 if source.weights is None else 8 * rows * (d + 8)  # rows without weight are left out of a copy
    starting = scalable.peak_bytes(family, k, d, rows) if settings.start.by_passes else 0
    return weighing + 16 * rows * d + max(pilot, starting, settings.work_bytes(d, rows))


def bytes_needed(task: int, driver: int, cached: int) -> int:
    """The least limit under which these fit: a task takes a quarter of it at most."""
    return max(4 * task, driver + task + cached)


def too_little(source: Source, settings: Settings, executor: Executor) -> DataError:
    """What to say where a limit does not suffice: what needs how much, and the one limit that does."""
    plan, task, driver = shrunk(source, settings)
    limit, cached = settings.memory_limit or 0, caching(source, settings, executor, 0)[1]
    least = least_limit(source, settings, executor)
    if 4 * task > limit:
        return DataError(
            f"{source.name}: a task needs {task:,} bytes, of which {reading_bytes(source, plan):,} hold storage chunks "
            f"of {source.chunk_rows} rows; memory_limit={limit:,} allows a quarter of it, {limit // 4:,}. Store the "
            f"data in smaller chunks, or allow memory_limit={least:,}."
        )
    if driver + task > limit:
        return DataError(
            f"{source.name}: the driver needs {driver:,} bytes and a task {task:,}; memory_limit={limit:,}. Allow "
            f"memory_limit={least:,}, or set a smaller sample_rows."
        )
    return DataError(
        f"{source.name}: cache='always' would keep {cached:,} bytes of rows, and memory_limit={limit:,} leaves "
        f"{limit - driver - task:,} for them. Allow memory_limit={least:,}, or set cache='auto'."
    )


def least_limit(source: Source, settings: Settings, executor: Executor) -> int:
    """The smallest limit above that of the settings under which all fits: what is needed grows with it, but less."""
    limit, needed = -1, settings.memory_limit or 0
    while needed > limit:
        limit = needed
        allowed = replace(settings, memory_limit=limit)
        _, task, driver = shrunk(source, allowed)
        needed = bytes_needed(task, driver, caching(source, allowed, executor, limit - driver - task)[1])
    return limit


def caching(source: Source, settings: Settings, executor: Executor, budget: int) -> tuple[bool, int]:
    """Whether decoded rows are kept between passes, and how many bytes of them in this process, `budget` at most."""
    size = source.n * source.row_bytes
    here = executor.tasks_at_once > 0
    whole = source.n <= sample_sizes(source, settings)[0]  # the sample is all of it then
    if source.in_memory or whole or settings.cache == "never":
        return False, 0
    if settings.cache == "auto":
        return here and size <= budget, size if here and size <= budget else 0
    return True, size if here else 0


def driver_bytes(source: Source, settings: Settings) -> int:
    """Bytes of the sample while it is drawn, clustered and fitted, of rows in flight, statistics and all else."""
    wanted, held_out = sample_sizes(source, settings)
    k, d = settings.start.n_components, source.d
    whole, rows = source.n <= wanted, min(source.n, wanted + held_out)
    runs = settings.n_init if whole else 1  # starts on a sample run one after another
    compete = not whole or settings.refine is not None
    starts = 5 * 8 * settings.start.n_parameters(d) * max(settings.n_init, LEAST_STARTS) if compete else 0
    soft = 16 * rows * k if settings.start.method == "random" else 0
    candidates = ADDED * scalable.stats_bytes(settings.family, k, d) if settings.start.by_passes else 0
    most_runs = runs if settings.refine is None else max(2, runs)  # halves of components are as good as two mixtures
    most = (settings.family, k, d, block_rows(settings.family, d, k), most_runs, settings.noise, settings.fast)
    scratch = peak_bytes(*most)
    plan = fit_plan(source, settings)
    largest = max(part.stop - part.start for part in plan.parts)
    in_flight = plan.window * largest * source.row_bytes if settings.algorithm.mini_batches else 0
    stats = 8 * Layout(settings.start.covariance_type, k, d, "", settings.noise).size
    kept = runs * settings.algorithm.kept_bytes(stats, plan.steps)
    compiler = COMPILER_BYTES if settings.fast == "compiled" else 0
    numbers = d if source.weights is None else d + 2
    copies = 6 if settings.noise else 5  # rows without those in empty places
    search = copies * rows * numbers * 8 + soft + starts + candidates
    search += filling_bytes(rows, d) if settings.missing == "em" else 0
    together = candidates_bytes(source, settings, rows, whole) if settings.candidates else 0
    return OVERHEAD_BYTES + compiler + search + 2 * scratch + in_flight + kept + together


def candidates_bytes(source: Source, settings: Settings, rows: int, whole: bool) -> int:
    """What candidates take in the driver beside a fit: states, statistics, densities of held-out rows, and E-steps."""
    d, held_out = source.d, set_aside(source, settings, rows, whole)
    stats = [8 * Layout(family.name, k, d, "").size for family, k in settings.company]
    states = sum(2 * settings.algorithm.kept_bytes(size, 1) + 4 * size for size in stats)
    passes = settings.work_bytes(d, fit_plan(source, settings).block_rows) if whole else 0
    return states + 16 * rows * d + 8 * held_out * (3 * len(stats) + 4) + 2 * passes
