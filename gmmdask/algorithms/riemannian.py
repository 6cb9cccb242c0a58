"""Riemannian L-BFGS on the reformulated mixture (Hosseini and Sra 2015): covariance and mean as one matrix."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from gmmdask.algorithms._base import Algorithm, Answer, Beginning, Note, Request, State
from gmmdask.algorithms._climb import LIGHTEST, Climb
from gmmdask.algorithms._stopping import Ascent
from gmmdask.covariance._base import Array
from gmmdask.frame import Prior
from gmmdask.gradients import bared, objective, regularised, slopes
from gmmdask.mixture import Mixture
from gmmdask.plan import Plan
from gmmdask.stats import Stats

TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Cone:
    """Logits a_k, and Ω_k = [[Σ + s μμᵀ, s μ], [s μᵀ, s]] as Ω_k = B_k B_kᵀ, on positive definite matrices with the
    affine-invariant metric tr(Ω⁻¹ dΩ Ω⁻¹ dΩ).

    A point holds logits and the B_k. A step holds changes of logits and symmetric U_k, which lead to B exp(U/2) along a
    geodesic; tangents B U Bᵀ that are transported along it keep their U, so that L-BFGS needs no transport of its own.
    Where s is not 1 the mixture at the point has weights in proportion to π_k c_k, log c = ½ (1 - log s - 1/s), and
    the value is log Σ π_k c_k less than its objective, a row (a Dirichlet prior counts as α - 1 rows a component):
    settling sets s to 1 and keeps the mixture. Noise has a logit, the last, and c = 1.
    """

    def enter(self, mixture: Mixture, prior: Prior) -> Array:
        (k, d), bare = mixture.means.shape, bared(mixture, prior)
        frames = np.zeros((k, d + 1, d + 1))
        frames[:, :d, :d] = np.linalg.cholesky(bare.covariances)
        frames[:, :d, d], frames[:, d, d] = bare.means, 1.0
        logits = np.log(np.maximum(bare.proportions, TINY))
        return joined(logits, frames)

    def mixture(self, point: Array, like: Mixture, prior: Prior) -> Mixture:
        parts = Parts.of(point, like)
        covariances = np.matmul(parts.widths, parts.widths.transpose(0, 2, 1))
        found = like.proportioned(parts.shares / parts.shares.sum())
        return regularised(replace(found, means=parts.means, covariances=covariances), prior)

    def moved(self, point: Array, step: Array, like: Mixture) -> Array:
        parts, k, m = Parts.of(point, like), like.n_components, like.proportions.size
        values, vectors = np.linalg.eigh(unpacked(step[m:], k, like.d + 1))
        half = np.matmul(vectors * np.exp(0.5 * values)[:, None], vectors.transpose(0, 2, 1))
        return joined(parts.logits + step[:m], np.matmul(parts.frames, half))

    def measured(self, point: Array, stats: Stats, mixture: Mixture, prior: Prior) -> tuple[float, Array]:
        """With G the slope of Σ and g that of μ, that of Ω is Jᵀ G J + sym(Jᵀ g eᵀ)/s + N ½ (1/s² - 1/s) e eᵀ, where
        J = [I, -μ] and e is the last unit vector; Bᵀ(·)B of it is the slope of U.
        """
        parts, found = Parts.of(point, mixture), slopes(stats, mixture, prior)
        widths, last, s = parts.widths, parts.last, parts.corners
        turned = np.matmul(widths.transpose(0, 2, 1), np.matmul(found.covariances, widths))
        pulled = np.einsum("kim,ki->km", widths, found.means) / s[:, None]
        corner = 0.5 * found.mass * (1 / s**2 - 1 / s)
        sides = pulled[:, :, None] * last[:, None, :]
        turned += 0.5 * (sides + sides.transpose(0, 2, 1))
        turned += corner[:, None, None] * last[:, :, None] * last[:, None, :]
        logits = found.shares - found.weight * parts.weights
        lost = found.weight / stats.weight * float(np.log(parts.shares.sum()))
        value = objective(stats, mixture, prior)[0] + lost
        return value, np.concatenate([logits, packed(turned)]) / stats.weight

    def settled(self, point: Array, like: Mixture) -> Array:
        """By the transport from Ω to where it has s = 1."""
        parts = Parts.of(point, like)
        last = parts.last / np.sqrt(parts.corners)[:, None]
        above = parts.widths + parts.means[:, :, None] * last[:, None, :]
        shares = np.maximum(parts.shares / parts.shares.sum(), TINY)
        return joined(np.log(shares), np.concatenate([above, last[:, None, :]], axis=1))

    def scales(self, mixture: Mixture) -> Array:
        """Inverses of the information of rows whose components are known, π_k of logits and ½ π_k of U: with them, the
        first step is nearly one of EM.
        """
        shares, entries = np.maximum(mixture.proportions, LIGHTEST), (mixture.d + 1) * (mixture.d + 2) // 2
        return np.concatenate([1 / shares, np.repeat(2 / shares[: mixture.n_components], entries)])


@dataclass(frozen=True, eq=False)
class Parts:
    """What a point stands for: logits (m,), as many as there are proportions, and B (K, d + 1, d + 1)."""

    logits: Array
    frames: Array

    @classmethod
    def of(cls, point: Array, like: Mixture) -> "Parts":
        k, m, side = like.n_components, like.proportions.size, like.d + 1
        return cls(point[:m], point[m:].reshape(k, side, side))

    @property
    def last(self) -> Array:
        """The last rows of B, (K, d + 1)."""
        return self.frames[:, -1]

    @cached_property
    def corners(self) -> Array:
        """s, (K,)."""
        return np.einsum("km,km->k", self.last, self.last)

    @cached_property
    def means(self) -> Array:
        return np.einsum("kim,km->ki", self.frames[:, :-1], self.last) / self.corners[:, None]

    @cached_property
    def widths(self) -> Array:
        """Z = J B, (K, d, d + 1), with Σ = Z Zᵀ."""
        return self.frames[:, :-1] - self.means[:, :, None] * self.last[:, None, :]

    @cached_property
    def weights(self) -> Array:
        """π by softmax, (m,)."""
        found = np.exp(self.logits - self.logits.max())
        return found / found.sum()

    @cached_property
    def shares(self) -> Array:
        """π_k c_k, (m,)."""
        factors = np.exp(0.5 * (1 - np.log(self.corners) - 1 / self.corners))
        return self.weights * (factors if len(factors) == len(self.weights) else np.append(factors, 1.0))


def joined(logits: Array, frames: Array) -> Array:
    return np.concatenate([logits, frames.ravel()])


def packed(matrices: Array) -> Array:
    """Symmetric (K, m, m) as one vector with the inner product of matrices: √2 times what stands off the diagonal."""
    rows, columns = np.triu_indices(matrices.shape[-1])
    return (matrices[:, rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))).ravel()


def unpacked(vector: Array, k: int, m: int) -> Array:
    """The symmetric matrices (K, m, m) of such a vector."""
    rows, columns = np.triu_indices(m)
    entries = vector.reshape(k, -1) * np.where(rows == columns, 1.0, np.sqrt(0.5))
    matrices = np.empty((k, m, m))
    matrices[:, rows, columns] = matrices[:, columns, rows] = entries
    return matrices


@dataclass(frozen=True)
class Riemannian(Algorithm):
    """L-BFGS on all rows, along geodesics of the cone of positive definite matrices; for `full` covariances.

    Parameters
    ----------
    tol : float
        Ends when the last two steps together gained less than this, and a Newton step should; nats per row. 0 leaves it
        to the gradient.
    max_iter : int
        Passes over the data, one an evaluation.
    gradient_tol : float
        Ends when the gradient per row, in the metric, is shorter.
    memory : int
        Pairs of steps and changes of the gradient that are kept.
    """

    families: ClassVar[tuple[str, ...]] = ("full",)

    tol: float = 1e-3
    max_iter: int = 100
    gradient_tol: float = 1e-6
    memory: int = 10

    @property
    def climb(self) -> Climb:
        return Climb(Cone(), Ascent(self.tol, self.max_iter, self.gradient_tol), self.memory)

    def start(self, mixture: Mixture, beginning: Beginning) -> State:
        return self.climb.start(mixture, beginning)

    def resume(self, state: State) -> State:
        return self.climb.resume(state)

    def ask(self, state: State, plan: Plan) -> Request:
        return self.climb.ask(state, plan)

    def tell(self, state: State, answer: Answer, prior: Prior) -> tuple[State, Note]:
        return self.climb.tell(state, answer, prior)

    def kept_bytes(self, stats_bytes: int, steps: int) -> int:
        return 2 * (2 * self.memory + 8) * stats_bytes
