"""What a fitted mixture turns into, and comes from: mixtures of some features, scikit-learn's, files, statistics."""

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

from sklearn.utils.validation import check_is_fitted

from gmmdask.fitted import FittedMixture
from gmmdask.interchange import (
    TOLD,
    Features,
    conditional_of,
    from_theirs,
    marginal_of,
    mixture_of,
    model_of,
    to_theirs,
)
from gmmdask.mixture import Mixture
from gmmdask.model_file import Model, load_model, save_model
from gmmdask.place import Place
from gmmdask.progress import stored_classes
from gmmdask.statistics import Statistics
from gmmdask.stream import STATES


class ConvertibleMixture(FittedMixture):
    """A fitted mixture with all that it can be made of, and made into."""

    # --- other mixtures ----------------------------------------------------------------------------------------

    @property
    def _features(self) -> Features:
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        return Features(self.mixture_.d, None if names is None else tuple(map(str, names)))

    def _derived(self, kind: str, mixture: Mixture, features: list[int]) -> Self:
        """A fitted estimator of some of the features."""
        names = self._features.kept(features)
        found = type(self)._of(model_of(mixture, kind, names, of=self.mixture_.digest, features=features))
        found.missing = self.missing
        return found

    def marginal(self, features: Sequence[int | str]) -> Self:
        """The mixture of some features alone, in this order, of the same covariance type.

        Parameters
        ----------
        features : indices, or names if the fit had any (`feature_names_in_`).

        Raises
        ------
        ValueError
            If a feature is unknown or named twice, or none is named.
        """
        return self._derived("marginal", *marginal_of(self.mixture_, self._features, features))

    def conditional(self, given: Mapping[int | str, float]) -> Self:
        """The mixture of all other features, in their order, where some have given values.

        It has the same covariance type and components; their weights are the posterior probabilities that the given
        values leave, and may be zero.

        Parameters
        ----------
        given : {feature: value}, features by index or name.

        Raises
        ------
        ValueError
            If a feature is unknown, a value is not a finite number, or no feature is left.
        """
        return self._derived("conditional", *conditional_of(self.mixture_, self._features, given))

    def sorted(self) -> Self:
        """This model with its components by descending weight, for use and comparison: it learns no stream further."""
        check_is_fitted(self)
        found = copy(self)
        found._set_mixture(self.mixture_.by_weight())
        found.stream_ = None
        return found

    @classmethod
    def from_parameters(cls, weights: Any, means: Any, covariances: Any, *, covariance_type: str = "full") -> Self:
        """A fitted estimator with these weights (K,), means (K, d) and covariances in the covariance type's shape.

        Raises
        ------
        ValueError
            If one has another shape, is not finite, or cannot be what it is called.
        """
        return cls._of(model_of(mixture_of(weights, means, covariances, covariance_type), "parameters"))

    def to_sklearn(self) -> Any:
        """A fitted `sklearn.mixture.GaussianMixture` with the same parameters, which shares no memory with this one."""
        check_is_fitted(self)
        told = {name: getattr(self, name) for name in TOLD if hasattr(self, name)}
        return to_theirs(self.mixture_, self.get_params(deep=False), told)

    @classmethod
    def from_sklearn(cls, model: Any) -> Self:
        """A fitted estimator with the parameters of a fitted `sklearn.mixture.GaussianMixture`.

        Raises
        ------
        TypeError
            If it is something else.
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        """
        mixture = from_theirs(model)
        estimator = cls._of(model_of(mixture, "sklearn"))
        estimator.set_params(**model.get_params(deep=False))
        for name in TOLD:
            if hasattr(model, name):
                setattr(estimator, name, getattr(model, name))
        return estimator

    # --- files -------------------------------------------------------------------------------------------------

    def save(self, path: str | Path | Place) -> None:
        """Writes the model to one file, atomically, without pickle; with the stream that it learns, if it does."""
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        kept = None if names is None else tuple(map(str, names))
        save_model(path, Model(self.mixture_, self.provenance_, getattr(self, "stream_", None), kept))

    @classmethod
    def load(cls, path: str | Path | Place) -> Self:
        """A fitted estimator from a file that `save` or the command line wrote.

        Raises
        ------
        gmmdask.container.FileError
            If it is not a readable model.
        """
        return cls._of(load_model(path, {**stored_classes(), **STATES}))

    @classmethod
    def from_statistics(cls, statistics: Statistics, *, reg_covar: float = 1e-6) -> Self:
        """A fitted estimator after one M-step: what a pass of "em" over all the rows of the statistics would give.

        Raises
        ------
        ValueError
            If there are no rows, or they leave a covariance ill-defined.
        """
        return cls._of(statistics.step(reg_covar))
