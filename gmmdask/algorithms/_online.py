"""Online EM (Cappé and Moulines 2009): what mini-batches have taught so far, one after another."""

from dataclasses import dataclass, replace

from gmmdask.algorithms.batch import checked_m_step
from gmmdask.frame import Prior
from gmmdask.mixture import Mixture
from gmmdask.stats import Stats

RATES = ("equal", "power")


def enough_rows(n_components: int, n_parameters: int) -> int:
    """Rows that statistics must be worth before an M-step may be made of them."""
    return max(10 * n_components, 2 * n_parameters)


@dataclass(frozen=True, eq=False)
class Online:
    """The mixture so far and the running statistics s that it is made of: s ← (1 - γ) s + γ s(B), θ ← M(s).

    Parameters
    ----------
    mixture : in frame coordinates; the next rows are evaluated under it.
    rate : "equal" weighs all rows alike; "power" is γ = (t + 2)^-power at step t; a number in (0, 1) is γ itself.
    power : above 0.5, at most 1.
    sums : s times the rows that it is worth; None before any.
    rows : weight of all rows that have come.
    steps : M-steps that were made.
    older, newer : sums of s over the steps since the last power of two but one, and since the last.
    """

    mixture: Mixture
    rate: str | float
    power: float
    sums: Stats | None = None
    rows: float = 0.0
    steps: int = 0
    older: Stats | None = None
    newer: Stats | None = None

    def after(self, stats: Stats, prior: Prior) -> "Online":
        """With the statistics of one more mini-batch, taken under `mixture`."""
        if not stats.weight:
            return self
        rows, sums = self.rows + stats.weight, stats
        if self.sums is not None:
            sums = stats + self.sums.about(stats.origin).scaled(self._past(stats.weight))
        if sums.weight < enough_rows(self.mixture.n_components, self.mixture.n_parameters) and not self.steps:
            return replace(self, sums=sums, rows=rows)
        following = replace(self, sums=sums, rows=rows, steps=self.steps + 1)
        following = replace(following, mixture=following._m_step(sums, prior))
        return following._averaging() if self.rate == "power" else following

    def _past(self, weight: float) -> float:
        """What the sums so far count for beside new ones of this weight: (1 - γ)/γ, relative to what they are worth."""
        if self.rate == "equal" or not self.steps:
            return 1.0
        rate = self.rate if isinstance(self.rate, float) else (self.steps + 1) ** -self.power
        assert self.sums is not None
        return (1 - rate) / rate * weight / self.sums.weight

    def _averaging(self) -> "Online":
        assert self.sums is not None
        mean = self.sums.scaled(1 / self.sums.weight)
        if self.newer is None or self.steps & (self.steps - 1) == 0:
            return replace(self, older=self.newer, newer=mean)
        return replace(self, newer=self.newer.about(mean.origin) + mean)

    def mended(self, sums: Stats, prior: Prior) -> "Online":
        """With repaired sums and the mixture that they make; averages begin anew."""
        assert self.sums is not None
        sums = sums.scaled(self.sums.weight / sums.weight)
        return replace(self, mixture=self._m_step(sums, prior), sums=sums, older=None, newer=None)

    def result(self, prior: Prior) -> Mixture:
        """The mixture of the averaged statistics (Polyak and Juditsky 1992) if the rate is "power", else the last.

        Averages run over the last half of the steps at least, and the last three quarters at most.
        """
        if self.newer is None:
            return self.mixture
        total = self.newer if self.older is None else self.older.about(self.newer.origin) + self.newer
        return self._m_step(total, prior)

    def _m_step(self, sums: Stats, prior: Prior) -> Mixture:
        """Of sums that a prior is weighed against as if they were worth all rows that have come, or that there are."""
        if prior.penalises:
            sums = sums.scaled(min(self.rows, prior.weight or self.rows) / sums.weight)
        return checked_m_step(sums, prior)
