"""Pictures of mixtures. Needs the extra `plot`."""

from gmmdask.plot.curves import calibration, convergence, gains, selection, weights
from gmmdask.plot.matrices import profiles, responsibilities, similarity
from gmmdask.plot.pairs import pairs
from gmmdask.plot.pictures import density, ellipses, marginals, overview, scatter
from gmmdask.plot.style import save, svg

__all__ = [
    "calibration",
    "convergence",
    "density",
    "ellipses",
    "gains",
    "marginals",
    "overview",
    "pairs",
    "profiles",
    "responsibilities",
    "save",
    "scatter",
    "selection",
    "similarity",
    "svg",
    "weights",
]
