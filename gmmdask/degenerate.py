"""What rows may lack: spread in some direction, and as many different ones as there are components."""

import numpy as np

from gmmdask.covariance import IllDefinedCovariance
from gmmdask.covariance._base import Array
from gmmdask.frame import Frame
from gmmdask.settings import Settings


def without_spread(frame: Frame, covariance: Array, settings: Settings, name: str) -> tuple[int, ...]:
    """Features that span directions in which data with this covariance (d, d) has no spread.

    Raises
    ------
    ValueError
        If nothing would carry them.
    """
    flat = np.diag(frame.covariance_in(covariance)) < 0.5
    if not flat.any() or (settings.start.covariance_type == "spherical" and not flat.all()):
        return ()
    spans = np.diag(frame.inverse) if frame.inverse.ndim == 1 else frame.inverse
    involved = np.abs(spans[:, flat]).max(axis=1)
    features = tuple(int(i) for i in np.flatnonzero(involved > 1e-6 * involved.max()))
    if settings.reg_covar == 0 and settings.prior is None:
        raise ValueError(
            f"{IllDefinedCovariance.SENTENCE} {name}: features {list(features)} are constant or linearly dependent, "
            "and reg_covar=0 does not carry them. Leave them out, or set reg_covar above 0, or a prior."
        )
    return features


def distinct_rows(rows: np.ndarray, enough: int) -> int | None:
    """How many different rows (m, d) there are, NaN being like NaN; None if `enough` or more are."""
    head = enough
    while True:  # most often the first few rows say it
        found = len(np.unique(np.nan_to_num(rows[:head], nan=np.inf, posinf=np.inf), axis=0))
        if found >= enough:
            return None
        if head >= len(rows):
            return found
        head *= 4


def told(distinct: int, n_components: int, rows: int, n: int) -> str:
    """What a user should know of so few different rows, of `rows` that were looked at, of n: a sentence."""
    if n == 1:
        return "There is only one row: it has no spread, and shows one component at most."
    where = "" if rows == n else f" in the sample of {rows}"
    if distinct == 1:
        return f"All rows{where} are equal: they have no spread, and show one component at most."
    return f"Only {distinct} rows{where} differ, too few for {n_components} components: ask for {distinct} or fewer."
