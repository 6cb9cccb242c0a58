"""Pictures of mixtures. Needs the extra `plot`."""

from gmmdask.plot.pictures import convergence, density, ellipses, marginals, overview, scatter
from gmmdask.plot.style import save

__all__ = ["convergence", "density", "ellipses", "marginals", "overview", "save", "scatter"]
