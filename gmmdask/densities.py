"""Log joint densities of blocks under a mixture and what they add up to; rows that have none are refused by name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from warnings import warn

import numpy as np

from gmmdask.estep import accumulate, with_entropy
from gmmdask.frame import Frame
from gmmdask.kernels import KERNELS, Features, kernel_for
from gmmdask.missing import Evaluation, floats_for
from gmmdask.mixture import Mixture
from gmmdask.sources import DataError, Source
from gmmdask.stats import Stats
from gmmdask.task import Block

SHOWN_NAMES = 5
REMEDY = (
    "Predictions, scores and reports by missing='em' (--missing em) take NaN for a missing value; statistics do not."
)


def check_features(mixture: Mixture, source: Source) -> None:
    """Refuses rows of another width than the mixture's."""
    if source.d != mixture.d:
        raise DataError(
            f"{source.name}: X has {source.d} features, but GaussianMixture is expecting {mixture.d} features as input."
        )


def check_names(wanted: Sequence[str] | None, source: Source) -> None:
    """Compares the names of a source's features with those that a fit had, or None, by scikit-learn's rules.

    Raises
    ------
    ValueError
        If both have names, and they differ, in their order too.
    """
    found = source.feature_names
    if wanted is None or found is None:
        if found is not None:
            warn("X has feature names, but GaussianMixture was fitted without feature names", stacklevel=4)
        elif wanted is not None:
            warn("X does not have valid feature names, but GaussianMixture was fitted with feature names", stacklevel=4)
        return
    if tuple(wanted) == found:
        return
    told = [
        listed("Feature names unseen at fit time:", sorted(set(found) - set(wanted))),
        listed("Feature names seen at fit time, yet now missing:", sorted(set(wanted) - set(found))),
    ]
    if not any(told):
        told = ["Feature names must be in the same order as they were in fit.\n"]
    remedy = f" Choose them: columns= (--columns {','.join(wanted)})." if set(wanted) <= set(found) else ""
    raise ValueError(
        f"The feature names should match those that were passed during fit.\n{''.join(told)}"
        f"{source.name} has {shown(found)}, expected {shown(wanted)}.{remedy}"
    )


def listed(heading: str, names: Sequence[str]) -> str:
    """A heading and a line for each of the first names; nothing for none."""
    lines = [f"- {name}" for name in names[:SHOWN_NAMES]] + ["- ..."] * (len(names) > SHOWN_NAMES)
    return "\n".join([heading, *lines, ""]) if names else ""


def shown(names: Sequence[str]) -> str:
    return ", ".join([*names[: 2 * SHOWN_NAMES], *["..."] * (len(names) > 2 * SHOWN_NAMES)])


class LogJoint:
    """Log joint densities under a mixture in its frame, with the scratch memory of one task."""

    def __init__(self, frame: Frame, inside: Mixture, rows: int, name: str) -> None:
        self.features = Features(inside.family, frame, rows)
        self.kernel = KERNELS[kernel_for(inside)](inside, frame, rows)
        self.name, self.n_components, self.log_scale = name, inside.n_components, inside.log_scale

    def __call__(self, block: Block, peaks: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Features (p + d + 1, b) and log joint densities (K, b), with a last line for noise, if there is any.

        Both are overwritten by the next call. `peaks` (K, b) takes those of rows at the means.

        Raises
        ------
        DataError
            If a row holds NaN or infinity, or is so far from the mixture that its density is beyond float64.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            features = self.features.enter(block.rows)
            if self.kernel.needs_quadratic:
                self.features.quadratic(features)
            joint = self.kernel.log_joint(features)
        refuse_bad_rows(block, joint[: self.n_components], self.name)
        if peaks is not None:
            peaks[:] = self.log_scale[:, None]
        return features, joint


class Incomplete:
    """The same of rows with missing values: log joint densities of what is there."""

    def __init__(self, frame: Frame, inside: Mixture, rows: int, name: str, impute: bool) -> None:
        self.evaluation, self.name, self.impute = Evaluation(inside, frame, rows), name, impute

    def __call__(self, block: Block, peaks: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The rows (b, d), with what is expected in their gaps if wanted, and log joint densities (K, b).

        `peaks` (K, b) takes those of rows that have the same features, at the means.

        Raises
        ------
        DataError
            If a row holds infinity, or its density is beyond float64.
        """
        rows = np.array(block.rows, floats_for(block.rows.dtype)) if self.impute else block.rows
        with np.errstate(over="ignore", invalid="ignore"):
            joint = self.evaluation.log_joint(block.rows, rows if self.impute else None, peaks)
        refuse_bad_rows(block, joint, self.name, missing=True)
        return rows, joint


def refuse_bad_rows(block: Block, joint: np.ndarray, name: str, missing: bool = False) -> None:
    """Refuses rows without a finite log joint density (K, b), which would have no label; the first is named.

    NaN may be `missing` values.
    """
    bad = ~np.isfinite(joint.max(axis=0))
    if not bad.any():
        return
    at = int(np.argmax(bad))
    row = block.numbers[at]
    values = block.rows[at]
    if not np.isfinite(values).all() and not (missing and not np.isinf(values).any()):
        what, remedy = ("infinity", "") if missing else ("NaN or infinity", f" {REMEDY}")
        raise DataError(f"{name}: Input contains {what}, first in row {row}. Drop or impute such rows first.{remedy}")
    raise DataError(
        f"{name}: row {row} is so far from the mixture that its density is beyond float64. Check its numbers and their "
        "units."
    )


@dataclass(frozen=True, eq=False)
class Take:
    """The work of the pass: an E-step of a mixture in its frame that refuses rows without a density."""

    frame: Frame
    inside: Mixture
    block_rows: int
    name: str

    def __call__(self, blocks: Iterable[Block]) -> Stats:
        log_joint = LogJoint(self.frame, self.inside, self.block_rows, self.name)
        for block in blocks:
            accumulate(log_joint.kernel, *log_joint(block), block.weights)
        return with_entropy(log_joint.kernel.stats, self.inside)
