"""The compiled kernel's loops: blocks of a few hundred rows that stay in the caches, without the interpreter lock.

Needs Numba (the extra `fast`), so nothing imports this module but `gmmdask.compiled`, when it is asked to. Importing it
compiles, or loads what an earlier process compiled.

A block of b rows is walked in panels: some features are formed, multiplied by their coefficients, and, once the
responsibilities are known, formed again (unless all were kept) and multiplied by those. Panels are so small that
OpenBLAS multiplies them where they lie, in a cache, without copying them first; this is what makes both products run
near the machine's peak. Both are products of plain row-major matrices, for the same reason.

Bits: no loop sums over rows, so there is no order of additions for a compiler to choose; what it may do is to contract
a product and a sum into one instruction, in whole vectors and remainders alike.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import llvmlite.binding
import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 - the product's home
from numba import float32, float64, int32, int64, njit, types, void
from numba.extending import get_cython_function_address

from gmmdask.covariance._base import Array
from gmmdask.kernels import FLOOR

llvmlite.binding.add_symbol("gmmdask_dgemm", get_cython_function_address("scipy.linalg.cython_blas", "dgemm"))
dgemm = types.ExternalFunction("gmmdask_dgemm", void(*[types.intp] * 13))  # by name, so that compiled code is cached

LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # the high part times n is exact
SHIFTER = 1.5 * 2.0**52  # added to a small number it leaves that number, rounded, in the lowest bits
SQRT_HALF = 0x3FE6A09E667F3BCD  # as bits

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    dispatcher: Function = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})(function)
    return dispatcher


class Tables(NamedTuple):
    """What a sweep reads and writes; memory is taken once a task.

    q features; m mixtures of K components each; c columns: K, and d more for `tied`.
    """

    origin: Array  # (d,) of the frame
    scale: Array  # (d,) of the frame, or ones
    matrix: Array  # (d, d) of the frame, or empty
    left: np.ndarray  # (q,) feature f is the product of lines left[f] and right[f]
    right: np.ndarray
    coefficients: Array  # (m K, q)
    sums: Array  # (m q, c): Σ feature · responsibility
    density: Array  # (m, b): Σ w log p of every b-th row
    lines: Array  # (d + 1 or d + 2, b): x, 1 and, if it is used, |x|²
    centred: Array  # (d, b)
    features: Array  # (q or panel, b)
    joint: Array  # (K, b): log joint densities, then responsibilities
    turned: Array  # (b, c): responsibilities, one contiguous line per row
    top: Array  # (b,)
    total: Array  # (b,)
    call: np.ndarray  # what dgemm wants to be told by address
    units: Array  # 1 and 0


@compiled
def exp(x: float) -> float:
    """e^x for -700 < x < 700 to one unit in the last place: 2^n times a polynomial of degree 11 on |r| <= ½ log 2."""
    shifted = x * LOG2_E + SHIFTER
    n = shifted - SHIFTER
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    y = 2.511074292341074e-08 * r + 2.7632701218644985e-07
    y = ((y * r + 2.755723914950066e-06) * r + 2.4801485297953223e-05) * r + 1.984126989132365e-04
    y = ((y * r + 1.3888888952505514e-03) * r + 8.333333333319495e-03) * r + 4.1666666666487315e-02
    y = (((y * r + 0.1666666666666668) * r + 0.5000000000000019) * r + 1.0) * r + 1.0
    return y * np.int64((np.float64(shifted).view(np.int64) << 52) + (1023 << 52)).view(np.float64)


@compiled
def log(x: float) -> float:
    """log x for normal x > 0 to two units in the last place: n log 2 + 2 artanh((m - 1) / (m + 1)), ½ <= m² <= 2."""
    bits = np.float64(x).view(np.int64)
    power = (bits - SQRT_HALF) >> 52
    m = np.int64(bits - (power << 52)).view(np.float64)
    n, s = np.float64(power), (m - 1.0) / (m + 1.0)
    z = s * s
    y = ((1 / 19 * z + 1 / 17) * z + 1 / 15) * z + 1 / 13
    y = ((((y * z + 1 / 11) * z + 1 / 9) * z + 1 / 7) * z + 1 / 5) * z + 1 / 3
    return n * LN2_HIGH + (2.0 * s + (n * LN2_LOW + 2.0 * s * z * y)) + (x - x)  # NaN stays NaN


@compiled
def multiply(a: Array, b: Array, out: Array, add: bool, call: np.ndarray, units: Array) -> None:
    """out = a b, or out += a b, of row-major matrices whose rows may lie apart: bᵀ aᵀ to the column-major dgemm."""
    call[1], call[2], call[3] = out.shape[1], out.shape[0], a.shape[1]
    call[4], call[5], call[6] = b.strides[0] // 8, a.strides[0] // 8, out.strides[0] // 8
    at, one = call.ctypes.data, units.ctypes.data
    zero, given_a, given_b = one + 8, a.ctypes.data, b.ctypes.data
    beta = one if add else zero
    dgemm(at, at, at + 4, at + 8, at + 12, one, given_b, at + 16, given_a, at + 20, beta, out.ctypes.data, at + 24)


@compiled
def enter(rows: np.ndarray, tables: Tables, panel: int) -> None:
    """Rows (b, d) in frame coordinates, one line per feature; then 1 and, where it is used, |x|²."""
    origin, scale, matrix, lines = tables.origin, tables.scale, tables.matrix, tables.lines
    b, d = rows.shape
    x = tables.centred if matrix.size else lines
    for r in range(b):
        for i in range(d):
            x[i, r] = (np.float64(rows[r, i]) - origin[i]) * scale[i]
    if matrix.size:
        for start in range(0, d, panel):
            some = slice(start, min(start + panel, d))
            multiply(matrix[some], x[:, :b], lines[some, :b], False, tables.call, tables.units)
    if len(lines) > d + 1:
        lines[d + 1] = 0.0
        for i in range(d):
            for r in range(b):
                lines[d + 1, r] += lines[i, r] * lines[i, r]


@compiled
def form(tables: Tables, start: int, stop: int, b: int, again: bool) -> Array:
    """Features start to stop, (stop - start, b): where all are kept, in their place, else in the place of a panel."""
    left, right, lines, features = tables.left, tables.right, tables.lines, tables.features
    kept = len(features) == len(left)
    at = start if kept else 0
    for f in range(stop if kept and again else start, stop):
        one, other, out = lines[left[f]], lines[right[f]], features[at + f - start]
        for r in range(b):
            out[r] = one[r] * other[r]
    return features[at : at + stop - start, :b]


@compiled
def assign(weights: Array, tables: Tables, mixture: int, b: int) -> None:
    """Log joint densities to responsibilities times weights (b,), turned; adds Σ w log p of the mixture.

    A row without a finite density leaves NaN or infinity in the sums.
    """
    joint, turned, top, total, density = tables.joint, tables.turned, tables.top, tables.total, tables.density[mixture]
    for r in range(b):
        top[r], total[r] = joint[0, r], 0.0
    for k in range(1, len(joint)):
        for r in range(b):
            top[r] = max(top[r], joint[k, r])
    for k in range(len(joint)):
        for r in range(b):
            x = joint[k, r] - top[r]
            y = 0.0 if x <= FLOOR else exp(x)
            joint[k, r] = y
            total[r] += y
    for r in range(b):
        w = weights[r] if len(weights) else 1.0
        density[r] += w * (top[r] + log(total[r]))
        total[r] = w / total[r]
    for r in range(b):
        for k in range(len(joint)):
            turned[r, k] = joint[k, r] * total[r]


@compiled
def visit(weights: Array, tables: Tables, mixture: int, panel: int, b: int) -> None:
    """Adds what b rows contribute to the sums of one mixture; if features are kept, the first forms them for all."""
    joint, turned, lines = tables.joint, tables.turned, tables.lines
    (n_components, _), q = joint.shape, len(tables.left)
    coefficients = tables.coefficients[mixture * n_components : (mixture + 1) * n_components]
    sums = tables.sums[mixture * q : (mixture + 1) * q]
    for start in range(0, q, panel):
        stop = min(start + panel, q)
        features = form(tables, start, stop, b, mixture > 0)
        multiply(coefficients[:, start:stop], features, joint[:, :b], start > 0, tables.call, tables.units)
    assign(weights, tables, mixture, b)
    if turned.shape[1] > n_components:  # `tied`: its one second moment needs no responsibilities
        for r in range(b):
            w = weights[r] if len(weights) else 1.0
            for i in range(turned.shape[1] - n_components):
                turned[r, n_components + i] = w * lines[i, r]
    for start in range(0, q, panel):
        stop = min(start + panel, q)
        multiply(form(tables, start, stop, b, True), turned[:b], sums[start:stop], True, tables.call, tables.units)


@compiled
def sweep(rows: np.ndarray, weights: Array, tables: Tables, panel: int) -> None:
    """Adds what rows (n, d) with weights (n,), or (0,) if all are one, contribute to `sums` and `density`."""
    most = tables.joint.shape[1]
    for first in range(0, len(rows), most):
        some = slice(first, min(first + most, len(rows)))
        enter(rows[some], tables, panel)
        for mixture in range(len(tables.density)):
            visit(weights[some], tables, mixture, panel, some.stop - first)


def _signatures() -> list[types.Type]:
    """Rows of float32 or of float64 and nothing else, lest another layout be compiled to other bits."""
    line, lines, numbers = float64[::1], float64[:, ::1], int64[::1]
    own = {"left": numbers, "right": numbers, "call": int32[::1]}
    own |= dict.fromkeys(("origin", "scale", "top", "total", "units"), line)
    tables = types.NamedTuple([own.get(name, lines) for name in Tables._fields], Tables)
    weights = types.Array(float64, 1, "C", readonly=True)
    return [void(types.Array(kind, 2, "C", readonly=True), weights, tables, int64) for kind in (float32, float64)]


_dispatcher: Any = sweep
for _signature in _signatures():
    _dispatcher.compile(_signature)
_dispatcher.disable_compile()
