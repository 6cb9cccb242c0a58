"""Covariance families: one class, one file each. A new family is a file here and a line in `FAMILIES`."""

from gmmdask.covariance._base import Family, IllDefinedCovariance
from gmmdask.covariance.diag import Diag
from gmmdask.covariance.full import Full
from gmmdask.covariance.spherical import Spherical
from gmmdask.covariance.tied import Tied

FAMILIES: dict[str, Family] = {
    "full": Full(),
    "tied": Tied(),
    "diag": Diag(),
    "spherical": Spherical(),
}

__all__ = ["FAMILIES", "Family", "IllDefinedCovariance"]
