"""Sufficient statistics of rows at a mixture: kept instead of the rows, added, subtracted, and made into a model."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from gmmdask.algorithms.batch import checked_m_step
from gmmdask.covariance._base import Array
from gmmdask.densities import Take, check_features, check_names
from gmmdask.execution import Executor, one_thread, open_executor
from gmmdask.frame import Frame, Prior
from gmmdask.kernels import KERNELS, block_rows, kernel_for
from gmmdask.mixture import Mixture
from gmmdask.model_file import Model, load_statistics, save_statistics
from gmmdask.plan import make_plan
from gmmdask.record import versions
from gmmdask.sources import Source, open_source
from gmmdask.sources.weights import weighted
from gmmdask.stats import Stats
from gmmdask.task import Data


@dataclass(frozen=True, eq=False)
class Statistics:
    """What an M-step needs of some rows. Those that were taken at the same mixture add; `Statistics.of` takes them.

    Parameters
    ----------
    mixture : in data units: where responsibilities come from.
    frame : the coordinates of `stats`. It suits the mixture, not the rows: so those of any rows share it.
    stats : in the frame.
    """

    mixture: Mixture
    frame: Frame
    stats: Stats

    @classmethod
    def none(cls, mixture: Mixture, frame: Frame | None = None) -> Self:
        """Statistics of no rows."""
        arrays = map(np.ascontiguousarray, (mixture.weights, mixture.means, mixture.covariances))
        weights, means, covariances = arrays  # the bits of a frame must not depend on strides
        mixture = replace(mixture, weights=weights, means=means, covariances=covariances)
        with one_thread():
            frame = frame or Frame.of(mixture.family, *mixture.moments())
            inside = frame.mixture_in(mixture)
            return cls(mixture, frame, KERNELS[kernel_for(inside)](inside, frame, 1).stats)

    @classmethod
    def of(
        cls, model: Any, X: Any, *, sample_weight: Any = None, scheduler: Any = None, frame: Frame | None = None
    ) -> Self:
        """Statistics of the rows of X at a mixture, by one pass; DataError names a row with NaN or infinity.

        Parameters
        ----------
        model : a fitted GaussianMixture, or a Mixture.
        X, sample_weight, scheduler : as `GaussianMixture.fit` takes them.
        frame : that of statistics which these are to be added to, should another machine have computed it.
        """
        mixture = getattr(model, "mixture_", model)
        if not isinstance(mixture, Mixture):
            raise TypeError(f"expected a fitted GaussianMixture or a Mixture, found {model!r}.")
        source = weighted(open_source(X), sample_weight)
        if model is not mixture:
            check_names(getattr(model, "feature_names_in_", None), source)
        with open_executor(scheduler) as executor:
            return cls.none(mixture, frame).over(source, executor)

    def over(self, source: Source, executor: Executor) -> Self:
        """Statistics of all rows of a source, at the same mixture and in the same frame, by one pass."""
        check_features(self.mixture, source)
        rows = block_rows(self.mixture.family, self.mixture.d, self.mixture.n_components)
        with one_thread():
            work = Take(self.frame, self.frame.mixture_in(self.mixture), rows, source.name)
            return replace(self, stats=Data(source, make_plan(source.edges, source.d, rows), executor).sums(work))

    @property
    def weight(self) -> float:
        """Rows, or the sum of their weights."""
        return self.stats.weight

    @property
    def mass(self) -> Array:
        """Sums of responsibilities, (K,)."""
        return self.stats.mass

    @property
    def log_likelihood(self) -> float:
        """Of the rows under the mixture, in nats and data units."""
        return self.stats.log_likelihood + self.weight * self.frame.log_det

    @property
    def score(self) -> float:
        """Mean log density, nats per unit of weight in data units; NaN without rows."""
        return self.log_likelihood / self.weight if self.weight else float("nan")

    def __str__(self) -> str:
        return f"statistics of weight {self.weight:.12g} at the {self.mixture}"

    def check_adds(self, other: "Statistics") -> None:
        """ValueError if the other was taken at another mixture or in another frame."""
        if self.mixture.digest != other.mixture.digest:
            raise ValueError(f"{self}, and {other}, do not go together. Take both at one mixture.")
        if self.frame.digest != other.frame.digest:
            raise ValueError(
                f"{self} in frame {self.frame.digest}, and {other} in frame {other.frame.digest}, do not go together: "
                "another machine or version computed the frame. Take one with Statistics.of(..., frame=other.frame)."
            )

    def _other(self, other: "Statistics") -> Stats:
        self.check_adds(other)
        return other.stats.about(self.stats.origin)

    def __add__(self, other: "Statistics") -> Self:
        """Statistics of the rows of both; ValueError as of `check_adds`."""
        return replace(self, stats=self.stats + self._other(other))

    def __sub__(self, other: "Statistics") -> Self:
        """Statistics without the rows of the other; also a ValueError if they cannot have been among these."""
        theirs = self._other(other)
        try:
            return replace(self, stats=self.stats.without(theirs))
        except ValueError as error:
            raise ValueError(f"{other}, cannot be subtracted from {self}: {error}") from error

    def step(self, reg_covar: float = 1e-6) -> Model:
        """The model of one M-step: what one pass of batch EM from the mixture, over all these rows, would give.

        ValueError if there are no rows, or they leave a covariance ill-defined; `reg_covar` is in squared data units.
        """
        if not self.weight > 0:
            raise ValueError(f"{self}: there are no rows to make a model of. Add statistics of some.")
        kind, k = self.mixture.covariance_type, self.mixture.n_components
        with one_thread():
            prior = replace(Prior.of(kind, k, self.frame, reg_covar), noise=self.frame.noise_in(self.mixture.noise))
            mixture = self.frame.mixture_out(checked_m_step(self.stats, prior))
        numbers = {"weight": self.weight, "log_likelihood": self.log_likelihood, "score": self.score}
        provenance = {
            "data": {"kind": "statistics", "mixture": self.mixture.digest, **numbers},
            "settings": {"n_components": k, "covariance_type": kind, "reg_covar": reg_covar},
            "versions": versions(),
            "outcome": {"sentence": f"one M-step from {self}, score {self.score:.6g} nats per row there"},
        }
        return Model(mixture, provenance)

    def save(self, path: str | Path) -> None:
        """Writes one file, atomically, without pickle; an existing one is replaced."""
        save_statistics(path, self.mixture, self.frame, self.stats)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What `save` wrote, to the bit; FileError if it is not a readable file of statistics."""
        return cls(*load_statistics(path))
