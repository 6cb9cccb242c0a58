"""Fitting algorithms. A new algorithm is a file here and a line in `ALGORITHMS`."""

from gmmdask.algorithms._base import Algorithm, Note, Request, State
from gmmdask.algorithms.batch import Batch

ALGORITHMS: dict[str, type[Algorithm]] = {
    "em": Batch,
}

__all__ = ["ALGORITHMS", "Algorithm", "Batch", "Note", "Request", "State"]
