"""What a fitted mixture can do: label, score, sample, and go to and come from files."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from gmmdask.covariance._base import Array
from gmmdask.densities import check_names
from gmmdask.execution import one_thread, open_executor
from gmmdask.mixture import Mixture
from gmmdask.model_file import Model
from gmmdask.outcome import Outcome, Reason
from gmmdask.predict import predict, reference_quantiles, totals
from gmmdask.quantiles import Quantiles
from gmmdask.settings import BY_NAME
from gmmdask.sources import Source, open_source
from gmmdask.sources.weights import weighted
from gmmdask.statistics import Statistics
from gmmdask.stream import Streamed


class FittedMixture(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """All of `GaussianMixture` that needs a mixture, and not the data that it came from."""

    def __sklearn_is_fitted__(self) -> bool:
        """A stream that waits for more rows to start on is no fit yet."""
        return hasattr(self, "mixture_")

    def _set_mixture(self, mixture: Mixture) -> None:
        self.mixture_, self.n_features_in_ = mixture, mixture.d
        self.weights_, self.means_, self.covariances_ = mixture.weights, mixture.means, mixture.covariances
        self.noise_weight_ = 0.0 if mixture.noise is None else mixture.noise.weight
        with one_thread():
            self.precisions_ = mixture.family.precisions(mixture.root)
            self.precisions_cholesky_ = mixture.family.precisions_cholesky(mixture.root)

    def _set_history(self, provenance: dict[str, Any]) -> None:
        """What a fit and a model file tell alike; a mixture that was drawn has no history."""
        self.provenance_, self.history_ = provenance, tuple(provenance.get("history", ()))
        outcome = provenance.get("outcome", {})
        if "reason" in outcome:
            self.outcome_ = Outcome(
                Reason(outcome["reason"]), outcome["sentence"], outcome["predicted_gain"], outcome.get("took", "")
            )
            self.converged_, self.n_iter_ = self.outcome_.converged, provenance.get("steps", len(self.history_))
        self.lower_bounds_ = [row["lower_bound"] for row in self.history_]
        self.lower_bound_ = self.lower_bounds_[-1] if self.lower_bounds_ else -np.inf

    def _set_names(self, names: Sequence[str] | None) -> None:
        """The names of the features that it was fitted to; none if these had none."""
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _open(self, X: Any) -> Source:
        """The rows of X, whose features have to be those of the fit."""
        check_is_fitted(self)
        source = open_source(X)
        check_names(getattr(self, "feature_names_in_", None), source)
        return source

    def _predict(self, X: Any, what: str, threshold: float | None = None) -> Any:
        source = self._open(X)
        return predict(self.mixture_, source, what, threshold, self._gaps)

    @property
    def _gaps(self) -> bool:
        """Whether NaN in rows is a missing value."""
        return bool(self.missing == "em")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._gaps
        return tags

    @classmethod
    def _of(cls, model: Model) -> Self:
        told = model.provenance.get("settings", {})
        kept = {
            name: told[name] for name in ("init_params", "reg_covar", "n_init", "sample_rows", *BY_NAME) if name in told
        }
        mixture = model.mixture
        kept["noise"] = mixture.noise is not None
        estimator = cls(mixture.n_components, covariance_type=mixture.covariance_type, **kept)
        estimator._set_mixture(mixture)
        estimator._set_history(model.provenance)
        estimator._set_names(model.feature_names)
        state = model.state
        estimator.stream_ = state.stream if isinstance(state, Streamed) else state
        return estimator

    # --- using -------------------------------------------------------------------------------------------------

    def predict(self, X: Any) -> Any:
        """Component of highest posterior probability of each row, (n,), -1 for noise.

        NumPy for rows in memory, else lazy dask.
        """
        return self._predict(X, "labels")

    def predict_proba(self, X: Any) -> Any:
        """Posterior probabilities, (n, K), which leave that of noise: NumPy for rows in memory, else lazy dask."""
        return self._predict(X, "proba")

    def score_samples(self, X: Any) -> Any:
        """Log density of each row in nats, (n,): NumPy for rows in memory, else lazy dask."""
        return self._predict(X, "score")

    def impute(self, X: Any) -> Any:
        """The rows (n, d), with the conditional expectation Σ_k r_k x̂_k in the place of missing values (NaN).

        float32 and float64 stay; NumPy for rows in memory, else lazy dask. Rows without a value get the mixture's mean.
        """
        return self._predict(X, "imputed")

    def _totals(self, X: Any, sample_weight: Any, scheduler: Any = None, whats: tuple[str, ...] = ("score",)) -> Any:
        """Log likelihood of the rows, nats, and their weight; between the two, what else is asked for."""
        source = weighted(self._open(X), sample_weight)
        with open_executor(scheduler) as executor:
            return totals(self.mixture_, source, executor, self._gaps, whats)

    def score(self, X: Any, y: Any = None, *, sample_weight: Any = None, scheduler: Any = None) -> float:
        """Mean log density of the rows, nats per row (or unit of weight), by one pass."""
        log_likelihood, weight = self._totals(X, sample_weight, scheduler)
        return log_likelihood / weight

    def outliers(self, X: Any, fraction: float = 0.01, *, reference: Any = None, scheduler: Any = None) -> Any:
        """Whether each row is less likely than the least likely `fraction` of the training rows, (n,) of bool.

        The training log densities are known by a table of quantiles that `fit` keeps, of its sample under the final
        mixture. NumPy for rows in memory, else lazy dask.

        Parameters
        ----------
        reference : rows whose log densities count instead of the training's, by one pass: X itself, for example.
        scheduler : of that pass, as `fit` takes it.

        Raises
        ------
        ValueError
            If the model has no such table, or it tells nothing of so small a fraction.
        """
        check_is_fitted(self)
        if reference is None:
            known = Quantiles.told_by(self.provenance_)
        else:
            with open_executor(scheduler) as executor:
                known = reference_quantiles(self.mixture_, self._open(reference), executor, self._gaps)
        return self._predict(X, "outlier", known.threshold(fraction))

    def bic(self, X: Any, *, sample_weight: Any = None) -> float:
        """Bayesian information criterion, -2 LL + p log W, W the rows or their weight; smaller is better.

        LL has no prior in it; where values are missing, it is of what is there.
        """
        log_likelihood, weight = self._totals(X, sample_weight)
        return float(-2 * log_likelihood + self.mixture_.n_parameters * np.log(weight))

    def icl(self, X: Any, *, sample_weight: Any = None) -> float:
        """Integrated completed likelihood, BIC + 2 EN, EN the entropy of the posteriors; smaller is better.

        It counts against a mixture that its components overlap (Biernacki, Celeux and Govaert 2000).
        """
        log_likelihood, entropy, weight = self._totals(X, sample_weight, whats=("score", "entropy"))
        return float(-2 * log_likelihood + self.mixture_.n_parameters * np.log(weight) + 2 * entropy)

    def aic(self, X: Any, *, sample_weight: Any = None) -> float:
        """Akaike information criterion, -2 LL + 2 p; smaller is better."""
        return -2 * self._totals(X, sample_weight)[0] + 2 * self.mixture_.n_parameters

    def statistics(self, X: Any, *, sample_weight: Any = None, scheduler: Any = None) -> Statistics:
        """Sufficient statistics of the rows at this mixture, by one pass: they add, and are kept instead of rows."""
        source = self._open(X)
        return Statistics.of(self.mixture_, source, sample_weight=sample_weight, scheduler=scheduler)

    def sample(self, n_samples: int = 1) -> tuple[Array, np.ndarray]:
        """Rows (n_samples, d) drawn from the mixture, and their components (n_samples,), in order of component.

        Noise, -1, comes first, spread evenly over the box of the rows that were fitted.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples}. The sampling requires at least one sample.")
        random = check_random_state(self.random_state)
        rng = np.random.default_rng(random.randint(2**32, size=4, dtype=np.uint64))
        rows, labels = self.mixture_.sample(n_samples, rng)
        order = np.argsort(labels, kind="stable")
        return rows[order], labels[order]
