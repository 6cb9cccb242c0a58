"""Gaussian mixtures for rows that do not fit in memory: out of core, on a laptop or a Dask cluster, same bits."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmmdask import algorithms as algorithms
    from gmmdask.estimator import GaussianMixture as GaussianMixture
    from gmmdask.matching import bhattacharyya as bhattacharyya
    from gmmdask.matching import match as match
    from gmmdask.matching import symmetric_kl as symmetric_kl
    from gmmdask.place import Place as Place
    from gmmdask.sources import open_source as open_source
    from gmmdask.statistics import Statistics as Statistics

__all__ = ["GaussianMixture", "Place", "Statistics", "algorithms", "open_source"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: the command line starts without scikit-learn."""
    import importlib

    if name == "GaussianMixture":
        return importlib.import_module("gmmdask.estimator").GaussianMixture
    if name == "Statistics":
        return importlib.import_module("gmmdask.statistics").Statistics
    if name == "Place":
        return importlib.import_module("gmmdask.place").Place
    if name == "open_source":
        return importlib.import_module("gmmdask.sources").open_source
    if name == "algorithms":
        return importlib.import_module("gmmdask.algorithms")
    raise AttributeError(f"module 'gmmdask' has no attribute {name!r}")
