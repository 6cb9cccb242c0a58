"""How sure it is which component rows are of, where values are missing: what criteria need of all rows."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import entr

from gmmdask.estep import Block, EStep, Sums, log_joint
from gmmdask.frame import Frame
from gmmdask.kernels import layout_of, soft_assignment
from gmmdask.stats import Stats


@dataclass(frozen=True, eq=False)
class Ambiguity:
    """The work of a pass: weight, mass, log likelihood, and as entropy that of the responsibilities, -Σ w r log r.

    That of `ESteps` is of all that is hidden, of missing values too. Moments stay zero.
    """

    steps: tuple[tuple[Frame, EStep], ...]
    block_rows: int

    def __call__(self, blocks: Iterable[Block]) -> Sums:
        each = [
            (Stats.zero(layout_of(step.mixture, frame)), log_joint(frame, step, self.block_rows))
            for frame, step in self.steps
        ]
        for block in blocks:
            weights = np.ones(len(block.rows)) if block.weights is None else block.weights
            for stats, evaluate in each:
                resp = evaluate(block.rows)
                log_density = soft_assignment(resp)
                stats.mass[:] += resp @ weights
                stats.vector[0] += weights.sum()
                stats.vector[2] += weights @ log_density
                stats.vector[3] += weights @ entr(resp, out=resp).sum(axis=0)
        return Sums(tuple(stats for stats, _ in each))
