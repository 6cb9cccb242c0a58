"""What a feed has to offer."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmmdask.pilot import LARGEST
from gmmdask.sources import DataError

Position = dict[str, Any]
LONGEST_WAIT = 0.2  # seconds in which nothing is yielded


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows (m, d), finite, and the position behind them: JSON values. No rows where what came was taken before."""

    rows: np.ndarray
    position: Position


@dataclass(frozen=True)
class Wait:
    """There are no new rows now; `reason` where that is not as it should be."""

    reason: str = ""


class Feed(ABC):
    """Rows of a source in batches of bounded memory, from any position on.

    A position holds "source", the feed's address, and how far it was read, in the feed's own words.

    Attributes
    ----------
    name : how messages call it.
    address : tells it from other sources.
    """

    name: str
    address: str

    @property
    @abstractmethod
    def beginning(self) -> Position:
        """The position before the first row."""

    @abstractmethod
    def batches(self, position: Position, d: int | None = None) -> Iterator[Batch | Wait]:
        """What comes after a position, to the end of the source. A `Wait` comes every so often while nothing does.

        Parameters
        ----------
        d : features that rows must have; None for as many as the first have.

        Raises
        ------
        DataError
            For rows that cannot be learned, and for a source that is not what it was; says where and what to do.
        """


def waiting(seconds: float, reason: str = "") -> Iterator[Wait]:
    """One `Wait`, and more of them until the time is over."""
    end = time.monotonic() + seconds
    yield Wait(reason)
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, LONGEST_WAIT))
        yield Wait(reason)


def checked_features(what: str, found: int, d: int | None) -> int:
    """The number of features, refused if it is not d."""
    if d is not None and found != d:
        raise DataError(f"{what} has {found} features, but the stream began with {d}. Send it rows of {d} numbers.")
    return found


def checked_rows(rows: np.ndarray, what: str, first: int) -> np.ndarray:
    """Rows (m, d), refused if one is not finite; `first` is the number of the first one."""
    bad = ~(np.abs(rows) <= np.float64(LARGEST)).all(axis=1)
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(
            f"{what}: NaN or infinity (or numbers beyond {LARGEST:g}) in row {first + at}: {shown(rows[at])}. Drop or "
            "impute such rows first."
        )
    return rows


def shown(row: np.ndarray) -> str:
    """The first numbers of a row."""
    more = ", ..." if len(row) > 8 else ""
    return f"[{', '.join(f'{number:g}' for number in row[:8])}{more}]"
