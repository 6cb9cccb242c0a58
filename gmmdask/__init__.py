"""Gaussian mixtures for rows that do not fit in memory: out of core, on a laptop or a Dask cluster, same bits."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmmdask import algorithms as algorithms
    from gmmdask.estimator import GaussianMixture as GaussianMixture
    from gmmdask.matching import bhattacharyya as bhattacharyya
    from gmmdask.matching import match as match
    from gmmdask.matching import symmetric_kl as symmetric_kl
    from gmmdask.place import Place as Place
    from gmmdask.selection import Selection as Selection
    from gmmdask.selection import select as select
    from gmmdask.sources import open_source as open_source
    from gmmdask.statistics import Statistics as Statistics

__all__ = [
    "GaussianMixture",
    "Place",
    "Selection",
    "Statistics",
    "algorithms",
    "bhattacharyya",
    "match",
    "open_source",
    "select",
    "symmetric_kl",
]
__version__ = "0.1.0"

MODULES = {
    "GaussianMixture": "estimator",
    "Place": "place",
    "Selection": "selection",
    "Statistics": "statistics",
    "bhattacharyya": "matching",
    "match": "matching",
    "open_source": "sources",
    "select": "selection",
    "symmetric_kl": "matching",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: the command line starts without scikit-learn."""
    import importlib

    if name == "algorithms":
        return importlib.import_module("gmmdask.algorithms")
    if name in MODULES:
        return getattr(importlib.import_module(f"gmmdask.{MODULES[name]}"), name)
    raise AttributeError(f"module 'gmmdask' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
