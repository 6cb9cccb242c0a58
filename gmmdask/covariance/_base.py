"""What a covariance family has to offer."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class IllDefinedCovariance(ValueError):
    """A covariance that is not positive definite; `component` is None for a shared one."""

    SENTENCE: ClassVar[str] = (
        "Fitting the mixture model failed because some components have ill-defined empirical covariance "
        "(for instance caused by singleton or collapsed samples). Try to decrease the number of components, increase "
        "reg_covar, or scale the input data."
    )

    def __init__(self, component: int | None) -> None:
        self.component = component
        which = "The shared covariance" if component is None else f"The covariance of component {component}"
        super().__init__(f"{self.SENTENCE} {which} is not positive definite.")

    def __reduce__(self) -> tuple[type, tuple[int | None]]:
        return type(self), (self.component,)


class Family(ABC):
    """One kind of covariance: how it is stored, evaluated and estimated.

    R is the number of covariances in a mixture of K components: 1 if `shared`, else K. Three shapes of it occur:

    - *own*: what users see, (K, d, d), (d, d), (K, d) or (K,);
    - *packed* (R, p): second moments without what symmetry makes redundant, p = `packed_size(d)`;
    - *root*: inverse square roots U of the covariances, Σ⁻¹ = UᵀU, in a shape that only the family knows.

    `aligned` says that features are independent within a component: its quadratic features are squares of features, or
    their sum.
    """

    name: ClassVar[str]
    shared: ClassVar[bool] = False
    aligned: ClassVar[bool] = False

    def __eq__(self, other: object) -> bool:
        """A family has no state: one that came back from a worker is the same."""
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    # --- moments -----------------------------------------------------------------------------------------------

    @abstractmethod
    def packed_size(self, d: int) -> int:
        """p, the number of quadratic features of a row."""

    @abstractmethod
    def quadratic(self, x: Array, out: Array) -> None:
        """Quadratic features (p, b) of the rows x (d, b), written to `out` one contiguous line per feature."""

    @abstractmethod
    def factors(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        """The same features as products of two lines each of [x; 1; |x|²] (d + 2, b): numbers of lines, twice (p,)."""

    @abstractmethod
    def scatter(self, z: Array, resp: Array) -> Array:
        """Σ r z zᵀ, packed (p,), of rows z (d, b) with responsibilities (b,)."""

    @abstractmethod
    def outer(self, a: Array, b: Array) -> Array:
        """The symmetric part of a_k b_kᵀ, packed (R, p), for a and b (K, d); summed over k if shared."""

    @abstractmethod
    def pack(self, matrix: Array) -> Array:
        """What the family keeps (p,) of a symmetric (d, d) moment."""

    @abstractmethod
    def covariances(self, scatter: Array, mass: Array, d: int) -> Array:
        """Maximum-likelihood covariances in own shape from central scatter, packed (R, p), and mass (K,)."""

    def rows_needed(self, d: int) -> int:
        """Rows that a component must hold for its covariance to be positive definite by them alone."""
        return 1 if self.shared else 2

    @abstractmethod
    def conjugate(self, degrees: float, d: int) -> tuple[float, Array]:
        """Of the inverse Wishart or gamma prior with ν degrees of freedom: f, where its log density of a covariance has
        the term -½ f log|Σ|, and what its scale matrix I adds to scatter, packed (p,).
        """

    # --- densities ---------------------------------------------------------------------------------------------

    @abstractmethod
    def root(self, covariances: Array, d: int) -> Array:
        """Inverse square roots U of the covariances.

        Raises
        ------
        IllDefinedCovariance
            If one is not positive definite.
        """

    @abstractmethod
    def half_log_det_precision(self, root: Array, d: int) -> Array:
        """½ log|Σ⁻¹| per component, (R,)."""

    @abstractmethod
    def coefficients(self, root: Array, means: Array) -> tuple[Array, Array, Array]:
        """-½|U(x-μ)|² as quadratic (R, p), linear (K, d) and constant (K,) coefficients of a row's features."""

    @abstractmethod
    def whiten(self, root: Array, k: int, z: Array) -> Array:
        """U_k z for centred rows z (d, b): an array whose squared length per column is the Mahalanobis distance."""

    @abstractmethod
    def cancellation(self, root: Array, covariances: Array, means: Array) -> Array:
        """aᵀ|Σ⁻¹|a with a = |μ| + 3σ, (K,): how much larger the terms of the expanded square are than the square.

        Times the rounding unit it estimates the relative error of a covariance taken from uncentred moments.
        """

    @abstractmethod
    def precisions(self, root: Array) -> Array:
        """Σ⁻¹ in own shape."""

    @abstractmethod
    def precisions_cholesky(self, root: Array) -> Array:
        """Uᵀ as scikit-learn stores it: upper triangular for matrices, 1/σ otherwise."""

    @abstractmethod
    def from_precisions(self, precisions: Array) -> Array:
        """Covariances from precisions, both in own shape."""

    # --- shapes and coordinates --------------------------------------------------------------------------------

    @abstractmethod
    def own_shape(self, n_components: int, d: int) -> tuple[int, ...]:
        """The shape of `covariances`."""

    @abstractmethod
    def dense(self, covariances: Array, n_components: int, d: int) -> Array:
        """Covariances as (K, d, d) matrices."""

    @abstractmethod
    def restricted(self, matrices: Array, features: np.ndarray) -> Array:
        """Own-shape covariances or precisions with the rows and columns of these features alone, in this order."""

    @abstractmethod
    def isotropic(self, value: float, n_components: int, d: int) -> Array:
        """value · I in own shape."""

    @abstractmethod
    def whitening(self, covariance: Array) -> tuple[Array, Array]:
        """A and its inverse, as matrices (d, d) or scales (d,), so that x ↦ A(x - c) suits the family best.

        Directions of the (d, d) data covariance without spread keep scale one.
        """

    @abstractmethod
    def transform(self, covariances: Array, a: Array) -> Array:
        """Own-shape covariances after x ↦ A x, for A from `whitening` or its inverse.

        Where these are matrices, A may also be scales (d,).
        """

    @abstractmethod
    def coordinates(self, covariances: Array) -> Array:
        """Unconstrained coordinates (R, q) of covariances: Cholesky factors with log diagonal, or log variances.

        Raises
        ------
        IllDefinedCovariance
            If one is not positive definite.
        """

    @abstractmethod
    def from_coordinates(self, coordinates: Array, d: int) -> Array:
        """Covariances in own shape from any real coordinates (R, q)."""

    # --- gradients ---------------------------------------------------------------------------------------------

    @abstractmethod
    def slope(self, root: Array, scatter: Array, mass: Array, d: int) -> Array:
        """Derivative of Σ_k -½ mass_k log|Σ_k| - ½ tr(M_k Σ_k⁻¹) with respect to covariances, in own shape.

        ½ (Σ⁻¹ M Σ⁻¹ - mass Σ⁻¹), for scatter M about the means, packed (R, p), and mass (K,); every entry of a matrix
        counts for itself.
        """

    @abstractmethod
    def chain(self, coordinates: Array, slope: Array, d: int) -> Array:
        """Derivative with respect to `coordinates` (R, q) from the one with respect to covariances, in own shape."""

    @abstractmethod
    def information(self, root: Array, mass: Array, d: int) -> Array:
        """Fisher information of each of the `coordinates` (R, q) alone, from rows of this mass (K,) that are known to
        be the component's: how curved the log likelihood is at most.
        """

    @abstractmethod
    def floored(self, covariances: Array, least: float) -> Array:
        """Covariances with eigenvalues of `least` at least; those that have them keep their bits."""

    @abstractmethod
    def n_parameters(self, n_components: int, d: int) -> int:
        """Free parameters of the covariances."""


def spread_scales(variances: Array) -> Array:
    """Standard deviations (d,), with one where a feature has no spread."""
    return np.where(variances > 0, np.sqrt(np.maximum(variances, 0)), 1.0)
