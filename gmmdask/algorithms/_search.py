"""A line search for the strong Wolfe conditions (Nocedal and Wright 2006, algorithms 3.5 and 3.6), told values one by
one: a frozen value that a checkpoint holds.
"""

from dataclasses import dataclass, replace
from math import isfinite, sqrt

RISE = 1e-4  # c1: of what the slope at the start promises, a step must bring so much
FLAT = 0.9  # c2: of the slope at the start, so much may be left
PATIENCE = 8  # probes after which any step that rises enough is taken
PROBES = 25  # at most
ROUNDING = 1e-13  # of a value

Probe = tuple[float, float, float]  # length, value, slope


@dataclass(frozen=True)
class Search:
    """Of a maximum along a curve.

    Parameters
    ----------
    value, slope : at the start; the slope is positive.
    length : of the step that is to be evaluated next.
    low : the best step so far, the start among them.
    high : the other end of an interval that holds a maximum; None before there is one.
    probes : evaluations that are behind.
    """

    value: float
    slope: float
    length: float
    low: Probe
    high: Probe | None = None
    probes: int = 0

    @classmethod
    def of(cls, value: float, slope: float, length: float) -> "Search":
        return cls(value, slope, length, (0.0, value, slope))

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing to be found: too many probes, or an interval that is only rounding."""
        narrow = self.high is not None and abs(self.high[0] - self.low[0]) <= 1e-12 * max(self.high[0], self.low[0])
        return self.probes >= PROBES or narrow

    def accepts(self, value: float, slope: float) -> bool:
        """Whether the step that was asked for, with this value and slope at its end, may be taken."""
        return self._rises(value) and (abs(slope) <= FLAT * self.slope or self.probes >= PATIENCE)

    def _rises(self, value: float) -> bool:
        return value >= self.value + RISE * self.length * self.slope - ROUNDING * abs(self.value)

    def shortened(self) -> "Search":
        """With half the step: there is no mixture at the end of this one."""
        high, length = (self.length, float("-inf"), 0.0), 0.5 * (self.low[0] + self.length)
        return replace(self, high=high, length=length, probes=self.probes + 1)

    def narrowed(self, value: float, slope: float) -> "Search":
        """After a step that may not be taken."""
        probe, high = (self.length, value, slope), self.high
        best = self._rises(value) and (value > self.low[1] or not self.probes)
        if not best:
            low, high = self.low, probe
        elif high is None:
            low, high = probe, (self.low if slope <= 0 else None)
        else:
            low, high = probe, (self.low if slope * (high[0] - self.length) <= 0 else high)
        length = extrapolated(self.low, probe) if high is None else interpolated(low, high)
        return replace(self, low=low, high=high, length=length, probes=self.probes + 1)


def extrapolated(before: Probe, probe: Probe) -> float:
    """Where the slope should vanish beyond a probe, by a secant: two to ten times as far."""
    length, slope = probe[0], probe[2]
    bend = before[2] - slope
    wanted = length + (length - before[0]) * slope / bend if bend > 0 else float("inf")
    return min(max(wanted, 2 * length), 10 * length)


def interpolated(low: Probe, high: Probe) -> float:
    """The maximum of the cubic with these values and slopes, kept away from the ends; the middle if it has none."""
    (a, value_a, slope_a), (b, value_b, slope_b) = low, high
    middle, margin = 0.5 * (a + b), 0.1 * abs(b - a)
    if not isfinite(value_b):
        return middle
    first = -slope_a - slope_b + 3 * (value_a - value_b) / (a - b)
    square = first**2 - slope_a * slope_b
    if not square >= 0:
        return middle
    second = sqrt(square) if b > a else -sqrt(square)
    divisor = slope_a - slope_b + 2 * second
    if divisor == 0:
        return middle
    found = b - (b - a) * (-slope_b + second - first) / divisor
    return min(max(found, min(a, b) + margin), max(a, b) - margin)
