"""What the parameters of the estimator may be; scikit-learn checks them when a fit begins."""

from math import inf
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from dask.utils import parse_bytes
from sklearn.utils._param_validation import Interval, StrOptions

from gmmdask.algorithms import ALGORITHMS, Algorithm, Stochastic
from gmmdask.algorithms._stopping import STOPS
from gmmdask.covariance import FAMILIES
from gmmdask.frame import EMPTY, PRIORS
from gmmdask.place import Place

DEFAULT_REG_COVAR = 1e-6

CONSTRAINTS: dict[str, list[Any]] = {
    "n_components": [Interval(Integral, 1, None, closed="left")],
    "covariance_type": [StrOptions(set(FAMILIES))],
    "tol": [Interval(Real, 0.0, None, closed="left")],
    "reg_covar": [Interval(Real, 0.0, None, closed="left")],
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "n_init": [Interval(Integral, 1, None, closed="left")],
    "init_params": [StrOptions({"kmeans", "k-means++", "random", "random_from_data", "kmeans-whitened"})],
    "weights_init": ["array-like", None],
    "means_init": ["array-like", None],
    "precisions_init": ["array-like", None],
    "random_state": ["random_state"],
    "warm_start": ["boolean"],
    "verbose": ["verbose"],
    "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    "algorithm": [StrOptions(set(ALGORITHMS)), Algorithm],
    "accelerate": [StrOptions({"auto", "squarem"}), None],
    "stop": [StrOptions({"auto", *STOPS})],
    "checkpoint": [str, Path, Place, None],
    "callbacks": ["array-like"],
    "cache": [StrOptions({"auto", "never", "always"})],
    "memory_limit": [Interval(Integral, 1, None, closed="left"), str, None],
    "sample_rows": [Interval(Integral, 1, None, closed="left"), None],
    "empty": [StrOptions(set(EMPTY))],
    "prior": [StrOptions(set(PRIORS)), None],
    "weight_concentration": [Real],
}


def reg_covar_under(prior: str | None, reg_covar: float) -> float:
    """0 under a prior, which carries covariances itself; ValueError if both are set."""
    if prior is None:
        return float(reg_covar)
    if reg_covar not in (0, DEFAULT_REG_COVAR):
        raise ValueError(f"reg_covar={reg_covar}: prior={prior!r} takes its place. Set one of them only.")
    return 0.0


def concentration(value: float) -> float:
    """α of a Dirichlet prior; ValueError where its density has no maximum that a fit could go to."""
    if not 1 <= value < inf:
        raise ValueError(
            f"weight_concentration={value}: expected a number of at least 1. Below 1 the prior's density grows without "
            "bound as a weight goes to zero, so there is no best mixture; for fewer components, lower n_components."
        )
    return float(value)


def bytes_of(limit: int | str | None) -> int | None:
    """A memory limit as a number; ValueError if the text is none."""
    if not isinstance(limit, str):
        return None if limit is None else int(limit)
    try:
        return int(parse_bytes(limit))
    except ValueError as error:
        raise ValueError(f"memory_limit={limit!r}: expected bytes, or a text such as '1GB'.") from error


def check_stream(algorithm: str | Algorithm, empty: str, prior: str | None, weight_concentration: float) -> None:
    """Refuses with a ValueError what `partial_fit` cannot do."""
    if not isinstance(algorithm, Stochastic) and algorithm not in ("em", "stochastic"):
        raise ValueError(f"partial_fit learns by algorithm='stochastic', not by {algorithm!r}.")
    if empty != "reseed":
        raise ValueError(f"empty={empty!r}: partial_fit leaves components without rows as they are. Unset it.")
    if prior is not None:
        raise ValueError(f"prior={prior!r}: partial_fit learns without a prior. Unset it.")
    if weight_concentration != 1:
        raise ValueError(
            f"weight_concentration={weight_concentration}: partial_fit learns without a prior of weights. Unset it, or "
            "use fit."
        )
