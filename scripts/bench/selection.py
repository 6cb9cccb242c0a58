#!/usr/bin/env python
"""Many candidates in shared passes, against fits of one after another.

.venv/bin/python scripts/bench/selection.py                       # 30 candidates, 3 starts each, 1 GB of rows
.venv/bin/python scripts/bench/selection.py --alone 2:31          # every one of them alone, too
"""

import argparse
import statistics
import warnings
from pathlib import Path
from typing import Any

from report import Table, options_of, write
from sklearn.exceptions import ConvergenceWarning
from stores import stored
from timing import seconds_of

from gmmdask import GaussianMixture, Selection, select
from gmmdask.cli.select import Counts
from gmmdask.execution import Threads
from gmmdask.execution.local import available_cores
from gmmdask.outcome import Event, StartChosen
from gmmdask.selection import TOL
from gmmdask.synthetic import random_mixture
from gmmdask.task import Data

TEXT = """{candidates} candidates (`full`, K={least} to {most}), {n_init} starts each, on {n:,} rows of {d} features
({gigabytes:.2f} GB, uncompressed Zarr, cache="never"), K={k} in truth, {threads} threads. Passes are reads of all rows,
the first look and the last one included. Alone are fits of single K by the same rule, with as many starts (8 are the
least there), one run each; "all alone" is their mean times the candidates."""
SHARED = [
    ("what", "what", ""),
    ("passes", "passes", ""),
    ("seconds", "seconds", ",.1f"),
    ("starts", "of these, starts", ",.1f"),
    ("chosen", "chosen K", ""),
]


class Reads:
    """Counts the passes over a stored source for as long as it is entered."""

    def __init__(self, path: Path) -> None:
        self.name, self.passes, self.sums = str(path), 0, Data.sums

    def __enter__(self) -> "Reads":
        def counted(data: Data, work: Any, slices: Any = None) -> Any:
            self.passes += self.name in data.source.name
            return self.sums(data, work, slices)

        Data.sums = counted  # type: ignore[method-assign]
        return self

    def __exit__(self, *args: object) -> None:
        Data.sums = self.sums  # type: ignore[method-assign]


def starts_of(provenance: dict[str, Any]) -> float:
    """Seconds of starts."""
    return sum(stage["seconds"] for stage in provenance["stages"] if stage["stage"] == "start")


def together(path: Path, counts: tuple[int, ...], options: argparse.Namespace) -> tuple[dict[str, Any], Selection]:
    """All candidates by `select`."""
    found: list[Selection] = []
    starts: list[Event] = []

    def call() -> None:
        known = {"n_init": options.n_init, "random_state": 0, "cache": "never", "sample_rows": options.sample_rows}
        known |= {"scheduler": Threads(options.threads), "callbacks": (starts.append,)}
        found.append(select(path, counts, **known))

    with Reads(path) as reads:
        seconds = seconds_of(call)
    begun = sum(event.seconds for event in starts if isinstance(event, StartChosen))
    k = found[0].best_.n_components
    row = {"what": "together", "passes": reads.passes, "seconds": seconds, "starts": begun, "chosen": k}
    return row, found[0]


def alone(path: Path, k: int, options: argparse.Namespace) -> dict[str, Any]:
    """One K by a fit."""
    known = {"n_init": options.n_init, "random_state": 0, "cache": "never", "sample_rows": options.sample_rows}
    model = GaussianMixture(k, tol=TOL, stop="predicted", **known)
    with Reads(path) as reads:
        seconds = seconds_of(lambda: model.fit(path, scheduler=Threads(options.threads)))
    starts = starts_of(model.provenance_)
    return {"what": f"K={k} alone", "passes": reads.passes, "seconds": seconds, "starts": starts, "chosen": None}


def shared(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of the table, and what the text tells."""
    truth = random_mixture(options.components, options.features, "full", seed=0, separation=options.separation)
    path = stored(truth, options.rows, options.folder)
    first, found = together(path, options.candidates, options)
    print(found, flush=True)
    rows = [alone(path, k, options) for k in options.alone]
    mean, n = statistics.mean(row["seconds"] for row in rows), len(options.candidates)
    guess = {"what": "all alone", "passes": None, "seconds": n * mean, "starts": None, "chosen": None}
    guess["passes"] = round(n * statistics.mean(row["passes"] for row in rows))
    slowest = max(row["passes"] for row in rows)
    sizes = {"n": options.rows, "d": truth.d, "k": truth.n_components, "gigabytes": 8e-9 * options.rows * truth.d}
    return [first, *rows, guess], {**sizes, "passes_ratio": first["passes"] / slowest, "table": list(found.table_)}


def main() -> None:
    parser, counts = argparse.ArgumentParser(), Counts()
    numbers = lambda text: counts.convert(text, None, None)  # noqa: E731
    parser.add_argument("--rows", type=int, default=16_000_000)
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--components", type=int, default=12, help="of the truth")
    parser.add_argument("--separation", type=float, default=6.0, help="of the closest means, in standard deviations")
    parser.add_argument("--candidates", type=numbers, default="2:31")
    parser.add_argument("--alone", type=numbers, default="6,12,18,24,31", help="those that are fitted alone, too")
    parser.add_argument("--sample-rows", type=int)
    parser.add_argument("--n-init", type=int, default=3)
    parser.add_argument("--threads", type=int, default=available_cores())
    tiny = {"rows": 20_000, "features": 2, "components": 3, "candidates": "2:4", "alone": "3", "n_init": 1}
    options = options_of(__doc__, parser, {**tiny, "sample_rows": 2000})
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows, told = shared(options)
    known = {**told, "threads": options.threads, "candidates": len(options.candidates), "n_init": options.n_init}
    text = TEXT.format(**known, least=options.candidates[0], most=options.candidates[-1])
    write(options, "selection", "Choosing K", text, [Table("", SHARED, rows)], **told)


if __name__ == "__main__":
    main()
