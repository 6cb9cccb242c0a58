"""A fitted mixture <-> one file, without pickle."""

from collections.abc import Mapping
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
    `state` is what a fit that goes on needs beyond, a frozen dataclass, or None.
    """

    mixture: Mixture
    provenance: dict[str, Any]
    state: Any = None


def save_model(path: str | Path, model: Model) -> None:
    """Writes the model atomically; an existing file is replaced."""
    mixture = model.mixture
    arrays = {"weights": mixture.weights, "means": mixture.means, "covariances": mixture.covariances}
    content: dict[str, Any] = {"covariance_type": mixture.covariance_type, "provenance": model.provenance}
    if model.state is not None:
        content["state"] = container.pack(model.state, arrays)
    container.write(path, "model", content, arrays)


def load_model(path: str | Path, classes: Mapping[str, type] | None = None) -> Model:
    """Reads a model; its state only where the `classes` that may be in it are given.

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
    state = None
    if classes is not None and "state" in content:
        state = container.unpack(content["state"], arrays, classes)
    return Model(Mixture(content["covariance_type"], weights, means, covariances), provenance, state)
