"""Mixtures from and to elsewhere: given parameters, scikit-learn's estimator, features by index or by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.mixture import GaussianMixture as Theirs
from sklearn.utils.validation import check_is_fitted

from gmmdask.conditioning import conditional, marginal
from gmmdask.covariance import FAMILIES
from gmmdask.mixture import Mixture
from gmmdask.model_file import Model
from gmmdask.record import versions
from gmmdask.start import Start, checked

SYMMETRY = 1e-6  # of a covariance matrix, relative to its largest variance: as far as its two halves may differ
THEIRS = ("full", "tied", "diag", "spherical")  # families that scikit-learn knows
TOLD = ("converged_", "n_iter_", "lower_bound_", "lower_bounds_", "feature_names_in_")  # attributes beside the mixture


def model_of(mixture: Mixture, kind: str, names: tuple[str, ...] | None = None, **told: Any) -> Model:
    """A model of a mixture that no fit has made, with names of features: its provenance says where it came from."""
    return Model(mixture, {"data": {"kind": kind, **told}, "versions": versions()}, feature_names=names)


# --- parameters ----------------------------------------------------------------------------------------------------


def mixture_of(weights: Any, means: Any, covariances: Any, covariance_type: str) -> Mixture:
    """A mixture from parameters that somebody gave, with the bits that they have.

    Raises
    ------
    ValueError
        If one has another shape, is not finite, or cannot be what it is called.
    """
    if covariance_type not in FAMILIES:
        raise ValueError(f"covariance_type={covariance_type!r}: expected one of {', '.join(FAMILIES)}.")
    if np.ndim(means) != 2 or not np.size(means):
        raise ValueError(f"The parameter 'means' should have the shape of (K, d), but got {np.shape(means)}")
    missing = [name for name, part in (("weights", weights), ("covariances", covariances)) if part is None]
    if missing:
        raise ValueError(f"The parameter {missing[0]!r} is None: a mixture needs weights, means and covariances.")
    (k, d), family = np.shape(means), FAMILIES[covariance_type]
    start = Start.checked(covariance_type, k, d, "kmeans", weights, means, None)
    found = checked(f"{covariance_type} covariance", covariances, family.own_shape(k, d))
    assert start.weights is not None
    assert start.means is not None
    assert found is not None
    mixture = Mixture(covariance_type, start.weights, start.means, found)
    dense = mixture.dense_covariances()
    skew = np.abs(dense - dense.transpose(0, 2, 1)).max(axis=(1, 2))
    uneven = skew > SYMMETRY * np.abs(np.einsum("kii->ki", dense)).max(axis=1)
    if uneven.any():
        raise ValueError(
            f"{covariance_type!r} covariance should be symmetric; that of component {int(np.argmax(uneven))} differs "
            f"from its transpose by {skew.max():.2g}."
        )
    try:
        mixture.root  # noqa: B018
    except ValueError as error:
        raise ValueError(
            f"{covariance_type!r} covariance should be positive (positive-definite if it is a matrix): {error}"
        ) from None
    return mixture


# --- scikit-learn --------------------------------------------------------------------------------------------------


def from_theirs(model: Any) -> Mixture:
    """The mixture of a fitted scikit-learn GaussianMixture.

    Raises
    ------
    TypeError
        If it is something else.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If its parameters are incomplete or do not make a mixture.
    """
    if not isinstance(model, Theirs):
        raise TypeError(f"expected a fitted sklearn.mixture.GaussianMixture, found {type(model).__name__}.")
    check_is_fitted(model)
    weights, means, covariances = (getattr(model, f"{name}_", None) for name in ("weights", "means", "covariances"))
    return mixture_of(weights, means, covariances, model.covariance_type)


def to_theirs(mixture: Mixture, parameters: Mapping[str, Any], told: Mapping[str, Any]) -> Theirs:
    """A fitted scikit-learn GaussianMixture; of a family that it does not know, as `full`. ValueError if it has noise.

    Parameters
    ----------
    parameters : of our estimator, those of scikit-learn's among them.
    told : fitted attributes beside the mixture, as far as they are known.
    """
    if mixture.noise is not None:
        raise ValueError(
            f"scikit-learn knows no noise, and this mixture has some, of weight {mixture.noise.weight:.3g}: its "
            "densities and labels would be others there. Fit with noise=False to export, or use the model here."
        )
    kind = mixture.covariance_type if mixture.covariance_type in THEIRS else "full"
    covariances = mixture.covariances if kind == mixture.covariance_type else mixture.dense_covariances()
    as_theirs = Mixture(kind, mixture.weights, mixture.means, covariances)
    known = {name: parameters[name] for name in Theirs().get_params() if name in parameters}
    if known.get("init_params") in ("kmeans-whitened", "k-means||"):
        known["init_params"] = "kmeans"
    model = Theirs(**{**known, "n_components": mixture.n_components, "covariance_type": kind})
    arrays = {
        "weights_": mixture.weights,
        "means_": mixture.means,
        "covariances_": covariances,
        "precisions_": as_theirs.family.precisions(as_theirs.root),
        "precisions_cholesky_": as_theirs.family.precisions_cholesky(as_theirs.root),
    }
    for name, array in arrays.items():
        setattr(model, name, np.array(array))
    unknown = {"converged_": False, "n_iter_": 0, "lower_bound_": -np.inf}
    for name, value in {**unknown, **told, "n_features_in_": mixture.d}.items():
        setattr(model, name, value)
    return model


# --- features ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """The d features of a model, and their names if it has any."""

    d: int
    names: tuple[str, ...] | None = None

    def index(self, feature: Any) -> int:
        """The number of a feature that is given by number or name; ValueError if there is none."""
        if isinstance(feature, str):
            if self.names is None:
                raise ValueError(
                    f"feature {feature!r}: the model's features have no names. Give indices 0 to {self.d - 1}."
                )
            if feature not in self.names:
                raise ValueError(f"feature {feature!r} is unknown: expected one of {', '.join(self.names)}.")
            return self.names.index(feature)
        if not isinstance(feature, Integral) or isinstance(feature, bool) or not 0 <= int(feature) < self.d:
            raise ValueError(f"feature {feature!r}: expected an index from 0 to {self.d - 1}, or a feature's name.")
        return int(feature)

    def indices(self, features: Sequence[Any]) -> list[int]:
        """Numbers of features; ValueError also if one comes twice."""
        if isinstance(features, str):
            raise ValueError(f"features={features!r}: expected a list of indices or names.")
        found = [self.index(feature) for feature in features]
        twice = [feature for feature, i in zip(features, found, strict=True) if found.count(i) > 1]
        if twice:
            raise ValueError(f"feature {twice[0]!r} is named more than once: name each once.")
        return found

    def kept(self, indices: Sequence[int]) -> tuple[str, ...] | None:
        """Names of these features."""
        return None if self.names is None else tuple(self.names[i] for i in indices)


def marginal_of(mixture: Mixture, features: Features, wanted: Sequence[Any]) -> tuple[Mixture, list[int]]:
    """The marginal of the wanted features, and their numbers; ValueError if there are none or they are unknown."""
    indices = features.indices(wanted)
    if not indices:
        raise ValueError("marginal: no features are named. Name at least one.")
    return marginal(mixture, indices), indices


def conditional_of(mixture: Mixture, features: Features, given: Mapping[Any, Any]) -> tuple[Mixture, list[int]]:
    """The mixture of all features but the given ones, and their numbers.

    Raises
    ------
    ValueError
        If a feature is unknown, a value is not a finite number, or no feature is left.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"conditional: expected a dictionary of feature: value, found a {type(given).__name__}.")
    indices = features.indices(list(given))
    values = np.array([_number(feature, value) for feature, value in given.items()])
    rest = [i for i in range(features.d) if i not in indices]
    if not rest:
        raise ValueError(f"conditional: all {features.d} features are given. Leave at least one out.")
    return conditional(mixture, indices, values), rest


def _number(feature: Any, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise ValueError(f"conditional: feature {feature!r} is given as {value!r}: expected a finite number.")
    return number
