"""Fitting algorithms. A new algorithm is a file here and a line in `ALGORITHMS`."""

from gmmdask.algorithms._base import Algorithm, Answer, Beginning, Note, Request, State
from gmmdask.algorithms._online import Online, enough_rows
from gmmdask.algorithms.batch import Batch
from gmmdask.algorithms.incremental import Incremental
from gmmdask.algorithms.squarem import Squarem
from gmmdask.algorithms.stochastic import Stochastic

ALGORITHMS: dict[str, type[Algorithm]] = {
    "em": Batch,
    "stochastic": Stochastic,
    "incremental": Incremental,
}

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Answer",
    "Batch",
    "Beginning",
    "Incremental",
    "Note",
    "Online",
    "Request",
    "Squarem",
    "State",
    "Stochastic",
    "enough_rows",
]
