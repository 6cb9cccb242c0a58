#!/usr/bin/env python
"""What a pass costs with more rows, components, features and storage chunks; what 100,000 chunks cost beside reading.

.venv/bin/python scripts/bench/growth.py            # 6 GB of disk, and 100,000 small files
"""

import argparse
import gc
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from memory import Sampler
from report import Table, options_of, write
from stores import stored
from timing import CountRows, data_of, e_steps, in_turn, pass_seconds, seconds_of

from gmmdask.execution import Threads
from gmmdask.execution.local import available_cores
from gmmdask.plan import Part
from gmmdask.sources import ArraySource, Source, open_source
from gmmdask.synthetic import random_mixture

TEXT = """Seconds of one EM pass, `full`, {threads} threads, medians of rounds in turn; growth is the time for each
row (or component, or unit of arithmetic) over that of the first line. Rows and chunks: from uncompressed Zarr, d=16,
K=16. Components and features: {held:,} rows in memory. Small chunks: {chunks:,} chunks of {small:,} rows, 2 features,
opened, checked, planned and passed by work that counts rows, against zarr-python alone that opens the array and reads
the same row ranges in as many threads; memory is what the resident size rose by in the one and in the other. `gmmdask
--help`: {help:.2f} s."""
BY_ROWS = [
    ("n", "rows", ","),
    ("read", "reading, s", ".2f"),
    ("seconds", "pass, s", ".2f"),
    ("growth", "growth", ".2f"),
]
BY_SHAPE = [("k", "K", ""), ("d", "d", ""), ("seconds", "pass, s", ".3f"), ("growth", "growth", ".2f")]
BY_CHUNKS = [("chunk_rows", "rows of a chunk", ","), ("chunks", "chunks", ","), *BY_ROWS[1:]]
SMALL = [
    ("zarr", "zarr-python, s", ".2f"),
    ("ours", "gmmdask, s", ".2f"),
    ("more", "more, s", ".2f"),
    ("zarr_bytes", "zarr-python, bytes", ",.0f"),
    ("our_bytes", "gmmdask, bytes", ",.0f"),
]


def by_source(sources: Sequence[tuple[dict[str, int], Source]], k: int, options: argparse.Namespace) -> Any:
    """Rows of a table: seconds to read and to pass, and seconds a row over those of the first."""
    results, truth = [], random_mixture(k, sources[0][1].d, "full", seed=0)
    for told, source in sources:
        with Threads(options.threads) as executor:
            data = data_of(source, truth, executor)
            work = e_steps(data, truth)
            pass_seconds(data, work)
            trials = {
                "read": lambda data=data: pass_seconds(data, CountRows()),
                "seconds": lambda data=data, work=work: pass_seconds(data, work),
            }
            results.append(told | in_turn(trials, options.repeats))
        first = results[0]["seconds"] / sources[0][1].n
        results[-1]["growth"] = results[-1]["seconds"] / source.n / first
    return results


def by_shape(shapes: Sequence[tuple[int, int]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of a table for some (K, d): seconds over those that the first line's arithmetic would give."""
    results: list[dict[str, Any]] = []
    for k, d in shapes:
        truth = random_mixture(k, d, "full", seed=0)
        rows, _ = truth.sample(options.held_rows, np.random.default_rng(0))
        found = by_source([({"k": k, "d": d}, ArraySource(rows))], k, options)[0]
        work = k * (d * (d + 3) / 2 + 1)
        results.append(found | {"growth": found["seconds"] / work})
    first = results[0]["growth"]
    return [row | {"growth": row["growth"] / first} for row in results]


def zarr_alone(path: Path, parts: Sequence[Part], step: int, threads: int) -> int:
    """Rows that zarr-python reads of an array that it has opened, range by range."""
    array = zarr.open_array(path, mode="r")

    def read(part: Part) -> int:
        return sum(len(array[start : min(part.stop, start + step)]) for start in range(part.start, part.stop, step))

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(read, parts))


def many_chunks(chunks: int, rows: int, options: argparse.Namespace) -> dict[str, float]:
    """Medians of seconds and bytes of zarr-python alone, and of ours from the path on."""
    truth = random_mixture(2, 2, "full", seed=0)
    path = stored(truth, chunks * rows, options.folder, chunk_rows=rows)
    data = data_of(open_source(path), truth, Threads(1))
    step = len(next(iter(data.source.read(0, data.plan.parts[0].stop))))
    parts, expected, rise = data.plan.parts, data.source.n, dict[str, list[int]](zarr=[], ours=[])
    del data

    def ours() -> int:
        with Threads(options.threads) as executor:
            counted: int = data_of(open_source(path), truth, executor).sums(CountRows())
        return counted

    def watched(name: str, work: Callable[[], int]) -> float:
        gc.collect()
        with Sampler() as sampler:
            seconds = seconds_of(lambda: check(work()))
        rise[name].append(sampler.added)
        return seconds

    def check(counted: int) -> None:
        assert counted == expected, f"counted {counted} of {expected} rows"

    trials = {
        "zarr": lambda: watched("zarr", lambda: zarr_alone(path, parts, step, options.threads)),
        "ours": lambda: watched("ours", ours),
    }
    found = in_turn(trials, options.repeats)
    found |= {"zarr_bytes": max(rise["zarr"]), "our_bytes": max(rise["ours"])}
    return found | {"more": found["ours"] - found["zarr"]}


def row_sources(truth: Any, options: argparse.Namespace) -> Iterator[tuple[dict[str, int], Source]]:
    for n in (options.rows, 10 * options.rows):
        yield {"n": n}, open_source(stored(truth, n, options.folder))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=3_000_000, help="and ten times as many")
    parser.add_argument("--held-rows", type=int, default=300_000, help="in memory")
    parser.add_argument("--chunks", type=int, default=100_000, help="of 1,000 rows")
    parser.add_argument("--cuts", type=int, nargs="+", default=[10, 100, 1000, 3000], help="chunks of the same rows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=available_cores())
    options = options_of(
        __doc__, parser, {"rows": 20_000, "held_rows": 2_000, "chunks": 300, "repeats": 1, "cuts": [10, 100]}
    )
    truth, n = random_mixture(16, 16, "full", seed=0), options.rows
    rows = by_source(list(row_sources(truth, options)), 16, options)
    sizes = [max(1, n // count) for count in options.cuts]
    sources = [open_source(stored(truth, n, options.folder, chunk_rows=size)) for size in sizes]
    told = [{"chunk_rows": size, "chunks": -(-n // size)} for size in sizes]
    cut = by_source(list(zip(told, sources, strict=True)), 16, options)
    components = by_shape([(k, 16) for k in (8, 16, 32, 64, 128)], options)
    features = by_shape([(16, d) for d in (8, 16, 32, 64)], options)
    small = many_chunks(options.chunks, 1000, options)
    command = [str(Path(sys.executable).with_name("gmmdask")), "--help"]
    helped = [seconds_of(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(5)]
    facts = {"held": options.held_rows, "chunks": options.chunks, "small": 1000, "help": statistics.median(helped)}
    tables = [Table("Rows:", BY_ROWS, rows), Table("Components:", BY_SHAPE, components)]
    tables += [Table("Features:", BY_SHAPE, features), Table("Chunks:", BY_CHUNKS, cut)]
    tables += [Table("Small chunks:", SMALL, [small])]
    write(options, "growth", "Growth", TEXT.format(**facts, threads=options.threads), tables, **facts)


if __name__ == "__main__":
    main()
