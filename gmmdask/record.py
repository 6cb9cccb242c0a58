"""What a fit tells of itself: its stages in words, its versions, and which settings it may not change."""

import importlib.metadata
import platform
from functools import cache
from typing import Any

from gmmdask.estep import EStep, LogDensities
from gmmdask.execution import one_thread
from gmmdask.kernels import numpy_of
from gmmdask.quantiles import Quantiles
from gmmdask.run import Run
from gmmdask.settings import Settings
from gmmdask.sources import Source
from gmmdask.task import Data


def passes_stage(history: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """What the passes over all rows bought: nats per row, laps, seconds."""
    gained = history[-1]["lower_bound"] - history[0]["lower_bound"] if history else 0.0
    seconds = sum(row["seconds"] for row in history)
    return {"stage": "passes", "gained": gained, "passes": len(history), "seconds": seconds}


def in_words(stages: tuple[dict[str, Any], ...]) -> str:
    """What each stage bought."""
    told = []
    for stage in stages:
        gained = f"{stage['gained']:+.2g} nats per row in " if "gained" in stage else ""
        passes = f"{stage['passes']} passes, " if "passes" in stage else ""
        told.append(f"{stage['stage']} {gained}{passes}{stage['seconds']:.1f} s")
    return f"{'; '.join(told)}."


def log_densities(run: Run, rows: Data) -> dict[str, Any]:
    """Quantiles of the log densities of rows in the driver's process under a run's mixture, in data units."""
    work = LogDensities(((run.frame, EStep.of(run.state.mixture, numpy_of(run.fast))),), rows.plan.block_rows)
    with one_thread():
        values, *weights = rows.sums(work).values
    return Quantiles.of(values + run.frame.log_det, *weights).describe()


def is_of(provenance: dict[str, Any], source: Source, settings: Settings) -> bool:
    """Whether a model came from a fit of these data with these settings, `max_iter` and `tol` apart."""
    told = {name: value for name, value in provenance.get("settings", {}).items() if name != "seed"}
    same_data = provenance.get("data") == source.fingerprint()
    return same_data and bool(told) and fixed(told) == fixed(settings.describe())


def fixed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that may not change on resume."""
    algorithm = {key: value for key, value in settings["algorithm"].items() if key not in ("max_iter", "tol")}
    return {**settings, "algorithm": algorithm}


def versions(*more: str) -> dict[str, str]:
    """Versions of what decides the bits."""
    names = ("gmmdask", "numpy", "scipy", "scikit-learn", "dask", "zarr", *more)
    found = {name: version(name) for name in names}
    return {**found, "python": platform.python_version(), "machine": platform.machine()}


@cache
def version(package: str) -> str:
    """Of an installed package; it takes a millisecond to read, which a fit of few rows does not."""
    return importlib.metadata.version(package)
