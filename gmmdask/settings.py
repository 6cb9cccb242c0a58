"""What is asked of a fit."""

from dataclasses import dataclass
from math import inf
from typing import Any

from gmmdask import scalable
from gmmdask.algorithms import Algorithm
from gmmdask.covariance import FAMILIES, Family
from gmmdask.estep import peak_bytes, shared_bytes
from gmmdask.kernels import MISSING
from gmmdask.start import SCALABLE, Start

# settings that a model keeps for the next fit
BY_NAME = ("empty", "prior", "weight_concentration", "refine", "noise", "missing")


@dataclass(frozen=True, eq=False)
class Settings:
    """What is asked of a fit; checked by whoever makes it.

    Parameters
    ----------
    start : covariance type, number of components and how to begin.
    algorithm : of the passes over all data.
    reg_covar : added to the diagonal of covariances, in squared data units.
    n_init : starts.
    random_state : seed, or None to draw one; a RandomState only for data that fits in the sample.
    memory_limit : bytes that the fit may add to its process; shapes the plan. None for constants of the code.
    sample_rows : rows of the pilot's sample; None for about 100 a parameter.
    bounds : lower bounds (nats per row) of earlier passes that a warm start goes on from.
    kernel : the fast one, "products" or "compiled".
    cache : {"auto", "never", "always"}
        Whether rows stay in memory once they are read; "auto" keeps those that fit in `CACHE_BYTES`, or under
        `memory_limit`, in the driver's process. It moves no bit.
    empty : {"reseed", "drop", "error"}
        What is done about components that hold too few rows.
    prior : {None, "mclust"}
        The conjugate prior of means and covariances; reg_covar is 0 under it.
    weight_concentration : α of the Dirichlet prior of weights, 1 or more.
    refine : {None, "split-merge"}
        Whether components are moved once EM has converged on the sample.
    noise : whether there is a uniform component, for outliers, beside the others.
    candidates : the starts of runs that share the passes, of which `start` is the largest; none where that is alone.
    missing : {"error", "em"}
        Whether NaN is an error, or a value that is missing at random.
    """

    start: Start
    algorithm: Algorithm
    reg_covar: float = 1e-6
    n_init: int = 1
    random_state: Any = None
    memory_limit: int | None = None
    sample_rows: int | None = None
    bounds: tuple[float, ...] = ()
    kernel: str = "products"
    cache: str = "never"
    empty: str = "reseed"
    prior: str | None = None
    weight_concentration: float = 1.0
    refine: str | None = None
    noise: bool = False
    candidates: tuple[Start, ...] = ()
    missing: str = "error"

    def __post_init__(self) -> None:
        if not 1 <= self.weight_concentration < inf:
            raise ValueError(
                f"weight_concentration={self.weight_concentration}: expected a number of at least 1. Below 1 the "
                "prior is unbounded as a weight goes to zero: nothing is best. For fewer components lower n_components."
            )
        if self.start.method == SCALABLE:
            scalable.check(self.refine, self.noise, self.missing == "em")
        if self.noise and self.missing == "em":
            raise ValueError("noise=True has a density of whole rows only: it goes with missing='error'. Unset one.")
        families, found = self.algorithm.families, self.start.covariance_type
        if families and found not in families:
            raise ValueError(
                f"covariance_type={found!r}: {type(self.algorithm).__name__} fits {', '.join(families)} only. Choose "
                "that, or algorithm='gradient' or 'em'."
            )

    @property
    def family(self) -> Family:
        return FAMILIES[self.start.covariance_type]

    @property
    def fast(self) -> str:
        """The kernel of passes over all rows, where it is accurate enough."""
        return MISSING if self.missing == "em" else self.kernel

    @property
    def company(self) -> tuple[tuple[Family, int], ...]:
        """Family and K of all runs of a pass."""
        starts = self.candidates or (self.start,)
        return tuple((FAMILIES[start.covariance_type], start.n_components) for start in starts)

    def work_bytes(self, d: int, rows: int) -> int:
        """Bytes that the E-steps of a pass take in a task, with blocks of so many rows."""
        if self.candidates:
            return 8 * rows * d + shared_bytes(self.company, d, rows, self.fast)  # held-out rows are left out of a copy
        return peak_bytes(self.family, self.start.n_components, d, rows, 1, self.noise, self.fast)

    def describe(self) -> dict[str, Any]:
        """What decides the model, as JSON values: but for `max_iter` and `tol`, a resumed fit must have the same.

        A setting that older files do not have is left out at its default.
        """
        seed = self.random_state if isinstance(self.random_state, int | None) else "RandomState"
        given = {
            name: part.tolist()
            for name in ("weights", "means", "precisions")
            if (part := getattr(self.start, name)) is not None
        }
        return {
            "n_components": self.start.n_components,
            "covariance_type": self.start.covariance_type,
            "init_params": self.start.method,
            "algorithm": self.algorithm.describe(),
            "reg_covar": self.reg_covar,
            "empty": self.empty,
            "prior": self.prior,
            "n_init": self.n_init,
            "random_state": seed,
            "memory_limit": self.memory_limit,
            "sample_rows": self.sample_rows,
            "kernel": self.fast,
            **({"refine": self.refine} if self.refine else {}),
            **({"noise": True} if self.noise else {}),
            **({"given": given} if given else {}),
            **({"candidates": [[family.name, k] for family, k in self.company]} if self.candidates else {}),
            **({"weight_concentration": float(self.weight_concentration)} if self.weight_concentration != 1 else {}),
            **({"missing": self.missing} if self.missing != "error" else {}),
        }
