"""A fitted mixture <-> one file, without pickle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gmmdask import container
from gmmdask.covariance import FAMILIES
from gmmdask.mixture import Mixture


@dataclass(frozen=True, eq=False)
class Model:
    """A mixture in data units, and where it came from.

    `provenance` is a JSON value: data fingerprint, settings, versions, kernel, outcome, history. Never a secret.
    """

    mixture: Mixture
    provenance: dict[str, Any]


def save_model(path: str | Path, model: Model) -> None:
    """Writes the model atomically; an existing file is replaced."""
    mixture = model.mixture
    content = {"covariance_type": mixture.covariance_type, "provenance": model.provenance}
    arrays = {"weights": mixture.weights, "means": mixture.means, "covariances": mixture.covariances}
    container.write(path, "model", content, arrays)


def load_model(path: str | Path) -> Model:
    """Reads a model.

    Raises
    ------
    FileError
        If it is not a readable model file of this or an older version, or its arrays do not fit together.
    """
    content, arrays = container.read(path, "model")
    try:
        weights, means, covariances = (arrays[name] for name in ("weights", "means", "covariances"))
        family = FAMILIES[content["covariance_type"]]
        (n_components, d), provenance = means.shape, dict(content["provenance"])
    except (KeyError, ValueError, TypeError) as error:
        raise container.FileError(f"{path}: not a complete model ({error!r}).") from error
    wanted = family.own_shape(n_components, d)
    if any(array.dtype != np.float64 for array in (weights, means, covariances)):
        raise container.FileError(f"{path}: expected arrays of float64.")
    if not means.size or weights.shape != (n_components,) or covariances.shape != wanted:
        raise container.FileError(
            f"{path}: arrays do not fit together: weights {weights.shape}, means {means.shape}, covariances "
            f"{covariances.shape}, expected ({n_components},) and {wanted}."
        )
    return Model(Mixture(content["covariance_type"], weights, means, covariances), provenance)
