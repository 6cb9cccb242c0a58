"""What the parameters of the estimator may be; scikit-learn checks them when a fit begins."""

import re
from collections.abc import Mapping
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
from gmmdask.start import METHODS, REFINEMENTS

DEFAULT_REG_COVAR = 1e-6

CONSTRAINTS: dict[str, list[Any]] = {
    "n_components": [Interval(Integral, 1, None, closed="left")],
    "covariance_type": [StrOptions(set(FAMILIES))],
    "tol": [Interval(Real, 0.0, None, closed="left")],
    "reg_covar": [Interval(Real, 0.0, None, closed="left")],
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "n_init": [Interval(Integral, 1, None, closed="left")],
    "init_params": [StrOptions(set(METHODS))],
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
    "refine": [StrOptions(set(REFINEMENTS)), None],
    "noise": ["boolean"],
    "missing": [StrOptions({"error", "em"})],
}


def reg_covar_under(prior: str | None, reg_covar: float) -> float:
    """0 under a prior, which carries covariances itself; ValueError if both are set."""
    if prior is None:
        return float(reg_covar)
    if reg_covar not in (0, DEFAULT_REG_COVAR):
        raise ValueError(f"reg_covar={reg_covar}: prior={prior!r} takes its place. Set one of them only.")
    return 0.0


GROUPS = r"\s*\d{1,3}(,\d{3})+(?![\d,.])"  # as messages print numbers; "1,5" is none of these


def bytes_of(limit: int | str | None) -> int | None:
    """A memory limit as a number; ValueError if the text is none."""
    if not isinstance(limit, str):
        return None if limit is None else int(limit)
    try:
        return int(parse_bytes(limit.replace(",", "") if re.match(GROUPS, limit) else limit))
    except ValueError as error:
        expected = "expected bytes, such as 1,500,000,000 or 1500000000, or a text such as '1.5GB'"
        raise ValueError(f"memory_limit={limit!r}: {expected}.") from error


NOT_OF_STREAMS = {  # what `partial_fit` cannot do: the value it needs, and what it does instead
    "empty": ("reseed", "leaves components without rows as they are"),
    "prior": (None, "learns without a prior"),
    "weight_concentration": (1, "learns without a prior of weights"),
    "refine": (None, "moves no components"),
    "noise": (False, "does not know the box that all rows will fill"),
    "missing": ("error", "learns whole rows"),
}


def check_stream(parameters: Mapping[str, Any]) -> None:
    """Refuses with a ValueError what `partial_fit` cannot do."""
    algorithm = parameters["algorithm"]
    if not isinstance(algorithm, Stochastic) and algorithm not in ("em", "stochastic"):
        raise ValueError(f"partial_fit learns by algorithm='stochastic', not by {algorithm!r}.")
    for name, (needed, instead) in NOT_OF_STREAMS.items():
        if parameters[name] != needed:
            raise ValueError(f"{name}={parameters[name]!r}: partial_fit {instead}. Unset it, or use fit.")
