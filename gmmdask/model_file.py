"""A fitted mixture, or statistics at one <-> one file, without pickle."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gmmdask import container
from gmmdask.covariance import FAMILIES
from gmmdask.frame import Frame
from gmmdask.mixture import Mixture
from gmmdask.noise import Noise
from gmmdask.place import Place
from gmmdask.stats import Layout, Stats

PARTS = ("frame_origin", "frame_matrix", "frame_inverse", "origin", "vector")  # of statistics, beside the mixture


@dataclass(frozen=True, eq=False)
class Model:
    """A mixture in data units, and where it came from.

    `provenance` is a JSON value: data fingerprint, settings, versions, kernel, outcome, history. Never a secret.
    `state` is what a fit that goes on needs beyond, a frozen dataclass, or None. `feature_names` are those of the
    columns that it was fitted to, if they had any.
    """

    mixture: Mixture
    provenance: dict[str, Any]
    state: Any = None
    feature_names: tuple[str, ...] | None = None

    @property
    def missing(self) -> bool:
        """Whether the fit took NaN for missing values."""
        return bool(self.provenance.get("settings", {}).get("missing") == "em")


def save_model(path: str | Path | Place, model: Model) -> None:
    """Writes the model atomically; an existing file is replaced."""
    arrays = arrays_of(model.mixture)
    content = {**content_of(model.mixture), "provenance": model.provenance}
    if model.feature_names is not None:
        content["feature_names"] = list(model.feature_names)
    if model.state is not None:
        content["state"] = container.pack(model.state, arrays)
    container.write(path, "model", content, arrays, schema=schema_of(model.mixture))


def load_model(path: str | Path | Place, classes: Mapping[str, type] | None = None) -> Model:
    """Reads a model; its state only where the `classes` that may be in it are given.

    Raises
    ------
    FileError
        If it is not a readable model file of this or an older version, or its arrays do not fit together.
    """
    content, arrays = container.read(path, "model")
    mixture = mixture_of(path, content, arrays)
    state = None
    if classes is not None and "state" in content:
        state = container.unpack(content["state"], arrays, classes)
    try:
        return Model(mixture, dict(content["provenance"]), state, names_in(path, content, mixture.d))
    except (KeyError, ValueError, TypeError) as error:
        raise container.FileError(f"{path}: not a complete model ({error!r}).") from error


def names_in(path: str | Path | Place, content: Any, d: int) -> tuple[str, ...] | None:
    """The names of the features that a file holds, if any; FileError if they are not d strings."""
    names = content.get("feature_names")
    if names is None:
        return None
    if not isinstance(names, list) or len(names) != d or not all(isinstance(name, str) for name in names):
        raise container.FileError(f"{path}: expected the names of {d} features, found {names!r}.")
    return tuple(names)


def arrays_of(mixture: Mixture) -> container.Arrays:
    """The arrays that a file holds of a mixture."""
    noise = mixture.noise
    box = {} if noise is None else {"noise_low": noise.low, "noise_high": noise.high}
    return {"weights": mixture.weights, "means": mixture.means, "covariances": mixture.covariances, **box}


def content_of(mixture: Mixture) -> dict[str, Any]:
    """What a file holds of a mixture beside arrays."""
    weight = {} if mixture.noise is None else {"noise_weight": mixture.noise.weight}
    return {"covariance_type": mixture.covariance_type, **weight}


def schema_of(mixture: Mixture) -> int:
    """The first that a file of this mixture can have."""
    return 1 if mixture.noise is None else 2


def mixture_of(path: str | Path | Place, content: Any, arrays: container.Arrays) -> Mixture:
    """The mixture that a file at `path` holds; FileError if its arrays are missing or do not fit together."""
    try:
        weights, means, covariances = (arrays[name] for name in ("weights", "means", "covariances"))
        family = FAMILIES[content["covariance_type"]]
        n_components, d = means.shape
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
    return Mixture(content["covariance_type"], weights, means, covariances, noise_of(path, content, arrays, d))


def noise_of(path: str | Path | Place, content: Any, arrays: container.Arrays, d: int) -> Noise | None:
    """The noise that a file at `path` holds, if any; FileError if it does not make sense."""
    weight, corners = content.get("noise_weight"), [arrays.get(name) for name in ("noise_low", "noise_high")]
    if weight is None:
        return None
    low, high = corners
    sound = isinstance(weight, float) and 0 <= weight <= 1
    if not sound or low is None or high is None or {low.dtype, high.dtype} != {np.dtype(np.float64)}:
        raise container.FileError(f"{path}: expected noise of a weight from 0 to 1 and a box of float64.")
    if low.shape != (d,) or high.shape != (d,) or not np.all(low <= high):
        raise container.FileError(f"{path}: expected the box of the noise from ({d},) to ({d},), found another.")
    return Noise(weight, low, high)


def save_statistics(path: str | Path | Place, mixture: Mixture, frame: Frame, stats: Stats) -> None:
    """Writes statistics in a frame, and the mixture (in data units) they were taken at; a file there is replaced."""
    parts = (frame.origin, frame.matrix, frame.inverse, stats.origin, stats.vector)
    arrays = {**arrays_of(mixture), **dict(zip(PARTS, parts, strict=True))}
    container.write(path, "statistics", content_of(mixture), arrays, schema=schema_of(mixture))


def load_statistics(path: str | Path | Place) -> tuple[Mixture, Frame, Stats]:
    """What `save_statistics` was given; FileError if it cannot be read or its arrays do not fit together."""
    content, arrays = container.read(path, "statistics")
    mixture = mixture_of(path, content, arrays)
    k, d, square = mixture.n_components, mixture.d, mixture.family.whitening(np.eye(mixture.d))[0].shape
    noise = mixture.noise is not None
    size = Layout(mixture.covariance_type, k, d, "", noise).size
    wanted = dict(zip(PARTS, ((d,), square, square, (k, d), (size,)), strict=True))
    found = {name: arrays[name].shape for name in PARTS if name in arrays}
    if found != wanted or any(arrays[name].dtype != np.float64 for name in PARTS):
        raise container.FileError(f"{path}: not complete statistics: expected float64 {wanted}, found {found}.")
    centre, matrix, inverse, origin, vector = (arrays[name] for name in PARTS)
    frame = Frame(centre, matrix, inverse)
    return mixture, frame, Stats(Layout(mixture.covariance_type, k, d, frame.digest, noise), origin, vector)
