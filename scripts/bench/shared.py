#!/usr/bin/env python
"""Four mixtures in one pass from Zarr, against one pass for each of them.

    .venv/bin/python scripts/bench/shared.py

Whether sharing pays is a matter of what reading costs: stores of several speeds are tried.
"""

import argparse

import zarr
from report import Table, options_of, write
from stores import late, stored
from timing import CountRows, data_of, e_steps, in_turn, pass_seconds

from gmmdask.execution import Threads
from gmmdask.execution.local import available_cores
from gmmdask.sources import ArraySource, open_source
from gmmdask.synthetic import random_mixture

TEXT = """Seconds of one pass for {mixtures} mixtures (K={k}, `full`) over {n:,} rows of {d} features from Zarr,
against the sum of one pass each, {threads} threads; medians of rounds in turn. The store that is late waits
{latency:g} s before it gives a chunk; the array in memory has {held:,} rows."""
COLUMNS = [
    ("store", "rows", ""),
    ("read", "reading, s", ".2f"),
    ("together", "together, s", ".2f"),
    ("apart", "apart, s", ".2f"),
    ("ratio", "together / apart", ".2f"),
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=12_000_000)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--components", type=int, default=8)
    parser.add_argument("--mixtures", type=int, default=4)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds before a chunk comes")
    parser.add_argument("--held-rows", type=int, default=2_000_000, help="of the array in memory")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=available_cores())
    options = options_of(__doc__, parser, {"rows": 200_000, "held_rows": 50_000, "repeats": 1})
    n, d, k = options.rows, options.features, options.components
    mixtures = [random_mixture(k, d, "full", seed) for seed in range(options.mixtures)]
    paths = {codec: stored(mixtures[0], n, options.folder, codec) for codec in ("uncompressed", "zstd", "blosc-lz4")}
    held = zarr.open_array(paths["uncompressed"], mode="r")[: min(n, options.held_rows)]
    sources = {codec: open_source(path) for codec, path in paths.items()}
    sources["blosc-lz4, late"] = open_source(late(paths["blosc-lz4"], options.latency))
    sources["in memory"] = ArraySource(held)
    results = []
    for name, source in sources.items():
        with Threads(options.threads) as executor:
            data = data_of(source, mixtures[0], executor)
            together, apart = e_steps(data, *mixtures), [e_steps(data, mixture) for mixture in mixtures]
            pass_seconds(data, together)  # the compiler, the page cache
            trials = {
                "read": lambda data=data: pass_seconds(data, CountRows()),
                "together": lambda data=data, work=together: pass_seconds(data, work),
                "apart": lambda data=data, works=apart: sum(pass_seconds(data, work) for work in works),
            }
            found = in_turn(trials, options.repeats)
        results.append({"store": name, **found, "ratio": found["together"] / found["apart"]})
    sizes = {"n": n, "d": d, "k": k, "mixtures": options.mixtures, "held": len(held), "latency": options.latency}
    text = TEXT.format(**sizes, threads=options.threads)
    write(options, "shared", "Several mixtures in one pass", text, [Table("", COLUMNS, results)], **sizes)


if __name__ == "__main__":
    main()
