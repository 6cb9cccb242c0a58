#!/usr/bin/env python
"""Whether an EM pass over 20 GB from Zarr costs ten times one over 2 GB: both against their own reading.

.venv/bin/python scripts/bench/sizes.py            # 22 GB of disk
"""

import argparse

from growth import by_source
from report import Table, options_of, write
from stores import stored

from gmmdask.execution.local import available_cores
from gmmdask.sources import open_source
from gmmdask.synthetic import random_mixture

TEXT = """Seconds of one EM pass, `full`, d={d}, K={k}, from blosc-lz4 Zarr, {threads} threads, medians in turn;
growth is the time for each row over that of the first line. Reading is the same plan and threads with work that only
counts rows."""
COLUMNS = [
    ("n", "rows", ","),
    ("gigabytes", "GB", ".1f"),
    ("read", "reading, s", ".2f"),
    ("seconds", "pass, s", ".2f"),
    ("to_read", "pass / reading", ".2f"),
    ("growth", "growth", ".2f"),
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[16_000_000, 156_000_000])
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=available_cores())
    options = options_of(__doc__, parser, {"rows": [20_000, 40_000], "repeats": 1, "components": 4})
    truth = random_mixture(options.components, options.features, "full", seed=0)
    paths = {n: stored(truth, n, options.folder, "blosc-lz4") for n in options.rows}
    told = [({"n": n}, open_source(path)) for n, path in paths.items()]
    found = [
        row | {"gigabytes": 8e-9 * row["n"] * truth.d, "to_read": row["seconds"] / row["read"]}
        for row in by_source(told, truth.n_components, options)
    ]
    facts = {"d": truth.d, "k": truth.n_components, "threads": options.threads}
    write(options, "sizes", "Sizes", TEXT.format(**facts), [Table("", COLUMNS, found)], **facts)


if __name__ == "__main__":
    main()
