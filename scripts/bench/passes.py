#!/usr/bin/env python
"""Score against passes and seconds, from one start: batch EM, with SQUAREM, stochastic and incremental EM.

    .venv/bin/python scripts/bench/passes.py                    # all cases, three seeds
    .venv/bin/python scripts/bench/passes.py --rows 20000 --seeds 1

Overlapping and separated mixtures, rows in random order and sorted by component, stored as Zarr. All start from the
same mixture, fitted to a sample. Prints a table, writes JSON and a picture. Scores are mean log densities of rows that
no method has seen, in nats per row, less the score of EM run from the same start until nothing is left to gain.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from report import Table, options_of, write

from gmmdask.algorithms import Algorithm, Batch, Beginning, Incremental, Squarem, Stochastic
from gmmdask.competition import Ground, best_start
from gmmdask.compiled import fast_kernel
from gmmdask.estep import EStep, ESteps
from gmmdask.execution import Threads, one_thread
from gmmdask.fit import advance
from gmmdask.frame import Frame, Prior
from gmmdask.initialise import in_memory
from gmmdask.mixture import Mixture
from gmmdask.pilot import FirstLook, first_look
from gmmdask.planning import fit_plan, sample_sizes
from gmmdask.plot.style import QUALITATIVE, new_figure, tidy
from gmmdask.run import Run
from gmmdask.selfcheck import Expected
from gmmdask.settings import Settings
from gmmdask.sources import open_source
from gmmdask.start import Start
from gmmdask.synthetic import random_mixture
from gmmdask.task import Data

SEPARATIONS = {"overlapping": 3.0, "separated": 6.0}  # of the closest means, in standard deviations
ORDERS = ("iid", "sorted")
STARTS = 16  # of EM on the sample; which one is behind a plateau is chance
UNSEEN_ROWS = 200_000
KERNEL = fast_kernel("auto")
CLOSE = 1e-4  # nats per row from the end, where passes are counted
TEXT = """{n:,} rows from Zarr, d={d}, K={k}, medians of {seeds} seeds. Scores of unseen rows in nats per row, less
that of EM run from the same start to its end: at the start, after one lap, at the method's own end. Passes are those
until a run's own bound stays within {close:g} of its end."""
COLUMNS = [
    ("kind", "mixture", ""),
    ("order", "order", ""),
    ("method", "method", ""),
    ("start", "start", ".5f"),
    ("after_one_lap", "one lap", ".5f"),
    ("end", "end", ".5f"),
    ("passes", "passes", ".0f"),
    ("seconds_a_lap", "s a lap", ".2f"),
]


def methods(laps: int) -> dict[str, Algorithm]:
    """Each with so many laps; they end themselves where a lap gains next to nothing."""
    batch = Batch(tol=1e-7, max_iter=laps, stop="predicted")
    return {
        "batch": batch,
        "squarem": Squarem(batch),
        "stochastic": Stochastic(tol=0, max_iter=2),
        "incremental": Incremental(tol=1e-7, max_iter=laps, stop="predicted"),
    }


class Case:
    """Data of one kind and seed, the start on its sample, and rows that nobody sees."""

    def __init__(
        self, n: int, d: int, k: int, kind: str, order: str, seed: int, sample_rows: int, folder: Path
    ) -> None:
        truth = random_mixture(k, d, "full", seed, SEPARATIONS[kind])
        rng = np.random.default_rng(seed)
        rows, labels = truth.sample(n, rng)
        rows = rows[np.argsort(labels, kind="stable")] if order == "sorted" else rows
        path = folder / "passes.zarr"
        zarr.create_array(path, data=rows, chunks=(max(1, n // 64), d), compressors=None, overwrite=True)
        self.unseen = truth.sample(min(n, UNSEEN_ROWS), rng)[0]
        self.source = open_source(path)
        self.settings = Settings(Start("full", k), Batch(), reg_covar=0.0, random_state=seed)
        p = truth.n_parameters
        sizes = (sample_rows or max(n // 100, 100 * p), sample_sizes(self.source, self.settings)[1])
        self.seed, self.executor = seed, Threads()
        self.look: FirstLook = first_look(self.data(Batch()), seed, *sizes)
        self.frame = Frame.of(truth.family, self.look.moments.mean, self.look.moments.covariance)
        self.prior = Prior.of("full", k, self.frame, 0.0)
        sample, self.held_out = (in_memory(r, "full", k, self.executor) for r in (self.look.sample, self.look.held_out))
        self.ground = Ground(self.look.sample, sample, self.held_out, self.frame, self.prior, KERNEL)
        self.start = best_start(self.settings.start, STARTS, seed, self.ground, lambda event: None)

    def data(self, algorithm: Algorithm) -> Data:
        return Data(self.source, fit_plan(self.source, replace(self.settings, algorithm=algorithm)), self.executor)

    def score(self, mixture: Mixture) -> float:
        """Of the unseen rows, in nats per row of the frame."""
        unseen = in_memory(self.unseen, "full", mixture.n_components, self.executor)
        work = ESteps(((self.frame, EStep.of(mixture, KERNEL)),), unseen.plan.block_rows)
        stats = unseen.sums(work).items[0]
        return float(stats.log_likelihood / stats.weight)

    def curve(self, algorithm: Algorithm) -> list[dict[str, float]]:
        """Seconds, score and the run's own bound after each lap; the start is lap 0."""
        data = self.data(algorithm)
        sample = self.ground.statistics(self.start) if algorithm.mini_batches else None
        mixed = not self.look.is_sorted or data.plan.window == len(data.plan.parts)
        beginning = Beginning(self.seed, data.plan.steps, sample, held_out=True, mixed=mixed)
        run = Run("run", algorithm, algorithm.start(self.start, beginning), self.frame, self.prior, KERNEL)
        found = [{"passes": 0, "seconds": 0.0, "score": self.score(self.start)}]
        clock = [time.perf_counter(), 0.0]

        def save(runs: tuple[Run, ...]) -> None:
            state = runs[0].state
            if state.laps == len(found):
                clock[1] += time.perf_counter() - clock[0]
                found.append({"passes": state.laps, "seconds": clock[1], "score": self.score(state.mixture)})
                bounds = getattr(state, "bounds", ())
                if bounds:
                    found[-1]["bound"] = bounds[-1]
                clock[0] = time.perf_counter()

        expected = Expected(self.look.moments.weight, self.look.moments.mean, self.look.moments.covariance)
        advance((run,), data, lambda event: None, expected, save, self.held_out)
        return found


def passes_to(curve: list[dict[str, float]], close: float) -> int | None:
    """Passes after which a run's own bound stays within `close` of its end, the one that shows it included."""
    bounds = [row["bound"] for row in curve if "bound" in row]
    return 1 + next(i for i, bound in enumerate(bounds) if bounds[-1] - bound <= close) if bounds else None


def measure(case: Case, laps: int) -> dict[str, Any]:
    """Curves of all methods, scores against the best end of EM from this start, and what is asked of them."""
    curves = {name: case.curve(algorithm) for name, algorithm in methods(laps).items()}
    converged = max(curves["batch"][-1]["score"], curves["squarem"][-1]["score"])
    found: dict[str, Any] = {"order_ratio": case.look.order_ratio, "sample_rows": len(case.look.sample)}
    for name, curve in curves.items():
        for row in curve:
            row["score"] -= converged
        found[name] = {
            "start": curve[0]["score"],
            "after_one_lap": curve[1]["score"],
            "end": curve[-1]["score"],
            "end_bound": curve[-1].get("bound"),
            "passes_to_close": passes_to(curve, CLOSE),
            "seconds_a_lap": curve[-1]["seconds"] / curve[-1]["passes"],
            "curve": curve,
        }
    return found


def medians(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over seeds, a row for each kind, order and method."""
    rows = []
    for kind in SEPARATIONS:
        for order in ORDERS:
            of_case = [row for row in results if (row["kind"], row["order"]) == (kind, order)]
            for name in methods(1):
                runs = [row[name] for row in of_case]
                keys = ("start", "after_one_lap", "end", "seconds_a_lap")
                middle = {key: statistics.median(run[key] for run in runs) for key in keys}
                passes = [run["passes_to_close"] for run in runs]
                middle["passes"] = None if None in passes else statistics.median(passes)
                rows.append({"kind": kind, "order": order, "method": name, **middle})
    return rows


def picture(results: list[dict[str, Any]], path: Path) -> None:
    """What is left to gain against passes and against seconds, first seed of each case."""
    figure = new_figure(11.0, 3.2 * len(SEPARATIONS))
    for i, kind in enumerate(SEPARATIONS):
        first = next(row for row in results if (row["kind"], row["order"]) == (kind, "sorted"))
        for j, against in enumerate(("passes", "seconds")):
            ax = figure.add_subplot(len(SEPARATIONS), 2, 2 * i + j + 1)
            for colour, name in zip(QUALITATIVE, methods(1), strict=False):
                curve = first[name]["curve"]
                left = [max(-row["score"], 1e-6) for row in curve]
                ax.plot([row[against] for row in curve], left, color=f"#{colour}", marker="o", markersize=3, label=name)
            ax.set_yscale("log")
            ax.set_xscale("symlog", linthresh=1.0)
            tidy(ax, f"{kind}, rows sorted by component", against, "nats per row below converged EM")
    ax.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130, format="png")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--laps", type=int, default=150)
    parser.add_argument("--sample-rows", type=int, default=0, help="[default: the larger of 1 %% and 100 a parameter]")
    tiny = {"rows": 4000, "features": 2, "components": 2, "seeds": 1, "laps": 5, "sample_rows": 500}
    options = options_of(__doc__, parser, tiny)
    n, d, k = options.rows, options.features, options.components
    results = []
    with one_thread():
        for kind in SEPARATIONS:
            for order in ORDERS:
                for seed in range(options.seeds):
                    case = Case(n, d, k, kind, order, seed, options.sample_rows, options.folder)
                    results.append({"kind": kind, "order": order, "seed": seed, **measure(case, options.laps)})
    text = TEXT.format(n=n, d=d, k=k, seeds=options.seeds, close=CLOSE)
    write(options, "passes", "Passes", text, [Table("", COLUMNS, medians(results))], results=results)
    picture(results, options.folder / "passes.png")


if __name__ == "__main__":
    main()
