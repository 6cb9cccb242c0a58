"""Fitting algorithms. A new algorithm is a file here and a line in `ALGORITHMS`."""

from gmmdask.algorithms._base import Algorithm, Answer, Beginning, Note, Request, State
from gmmdask.algorithms._climb import KEPT
from gmmdask.algorithms._guarded import Guarded
from gmmdask.algorithms._online import Online, enough_rows
from gmmdask.algorithms.batch import Batch
from gmmdask.algorithms.gradient import Gradient
from gmmdask.algorithms.incremental import Incremental
from gmmdask.algorithms.riemannian import Riemannian
from gmmdask.algorithms.squarem import Squarem
from gmmdask.algorithms.stochastic import Stochastic

ALGORITHMS: dict[str, type[Algorithm]] = {
    "em": Batch,
    "stochastic": Stochastic,
    "incremental": Incremental,
    "gradient": Gradient,
    "riemannian": Riemannian,
}

__all__ = [
    "ALGORITHMS",
    "KEPT",
    "Algorithm",
    "Answer",
    "Batch",
    "Beginning",
    "Gradient",
    "Guarded",
    "Incremental",
    "Note",
    "Online",
    "Request",
    "Riemannian",
    "Squarem",
    "State",
    "Stochastic",
    "enough_rows",
]
