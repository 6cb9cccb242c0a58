"""One stream from its feed to a model file that is published again and again."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmmdask.feeds import STANDARD_INPUT, Batch, Feed, Wait
from gmmdask.model_file import Model, load_model, save_model
from gmmdask.outcome import Callback, Published, StreamWaits
from gmmdask.progress import stored_classes
from gmmdask.record import versions
from gmmdask.sources import DataError
from gmmdask.stream import STATES, Stream, Streamed

FIXED = ("n_components", "covariance_type", "init_params", "rate", "reg_covar", "n_init", "sample_rows", "seed")


class Publisher:
    """Learns what a feed yields, and writes the model, with all that is needed to go on from there, every so often.

    The file holds the mixture, the stream and the position in the source, and is replaced as a whole. So whoever is
    killed goes on from the last publication, and no row is lost or counted twice between the two.

    Components keep their order, unlike a fit's: number k means the same one in every publication.

    Parameters
    ----------
    path : the model file.
    state : what has been learned before, and the position in the feed up to which it was.
    every : seconds between publications; the first is made as soon as there is a mixture.
    emit : receives events.
    check : called between batches; what it raises ends the stream there.
    run_id : of the command that is run, for the model's record.
    """

    def __init__(
        self,
        path: str,
        feed: Feed,
        state: Streamed,
        every: float,
        emit: Callback,
        check: Callable[[], None] = lambda: None,
        run_id: str = "",
    ) -> None:
        self.path, self.feed, self.state, self.every, self.emit, self.check = path, feed, state, every, emit, check
        self.run_id = run_id
        self.news, self.at = False, -float("inf")

    @property
    def stream(self) -> Stream:
        return self.state.stream

    @property
    def score(self) -> float | None:
        """Of recent rows, nats per row; None before there are any."""
        return self.stream.score if self.stream.seen[1] else None

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Of the columns that the feed chose, if they have names."""
        columns = self.state.position.get("columns")
        return None if columns is None else tuple(columns)

    def publish(self, now: bool = False) -> None:
        """Writes the model, if there is one and it is time, or `now`."""
        due = now or time.monotonic() - self.at >= self.every
        if not due or self.stream.online is None:
            return
        provenance = {
            **self.stream.describe(),
            "data": {"kind": "stream", "address": self.feed.name},
            "versions": versions(),
            **({"run_id": self.run_id} if self.run_id else {}),
        }
        save_model(self.path, Model(self.stream.mixture, provenance, self.state, self.feature_names))
        self.news, self.at = False, time.monotonic()
        self.emit(Published("stream", self.path, self.stream.taken, self.score))

    def run(self, idle_timeout: float | None = None) -> None:
        """Learns until the source ends, or for so many seconds without new rows.

        Raises
        ------
        DataError
            For rows that cannot be learned, and a source that ends before the start; the file stays as it is.
        """
        resumed = self.stream.online is not None
        try:
            self._learn(idle_timeout)
            if self.stream.online is None:
                raise self._too_few()
            if self.news:
                self.publish(now=True)
        except Exception as error:
            if resumed or self.at > 0:
                error.add_note(f"{self.path} stays as it was published last: --resume goes on from it.")
            raise
        except BaseException as error:  # interrupted
            if self.news:
                self.publish(now=True)
            kept = f"{self.path} is published: --resume goes on from it."
            none = f"Nothing was published yet: {self.stream.taken} rows are too few for the start."
            error.add_note(none if self.stream.online is None else kept)
            raise

    def _learn(self, idle_timeout: float | None) -> None:
        idle_since, told = None, ""
        d = None if self.stream.rows is None else self.stream.rows.shape[1]
        for item in self.feed.batches(self.state.position, d):
            if isinstance(item, Batch):
                idle_since = None
                if len(item.rows):  # one assignment: an interruption finds rows both learned and counted, or neither
                    self.state = Streamed(self.stream.taking(item.rows, emit=self.emit), item.position)
                    self.news = True
            elif item.reason not in ("", told):
                told = item.reason
                self.emit(StreamWaits("stream", told))
            if self.news:
                self.publish()
            self.check()
            if isinstance(item, Wait):
                idle_since = idle_since or time.monotonic()
                if idle_timeout is not None and time.monotonic() - idle_since >= idle_timeout:
                    if item.reason:
                        raise DataError(item.reason)
                    return

    def _too_few(self) -> DataError:
        k, came = self.stream.start.n_components, self.stream.taken
        needed = "" if self.stream.rows is None else f", and the start of {k} components needs {self.stream.needed}"
        return DataError(
            f"{self.feed.name}: ended after {came} rows{needed}. Start on fewer rows (--sample-rows), or ask for fewer "
            "components."
        )


def begun(feed: Feed, stream: Stream) -> Streamed:
    """A stream before the first row of the feed."""
    return Streamed(stream, feed.beginning)


def resumed(path: str, feed: Feed, wanted: Stream, any_seed: bool, continues: bool) -> Streamed:
    """What a model file was published with, to go on from.

    Parameters
    ----------
    wanted : a new stream of the settings that it must have; it is begun where there is no file.
    any_seed : whether its seed does not matter.
    continues : whether the feed begins where the stream stopped, and so none of its rows was taken.

    Raises
    ------
    ValueError
        If the file holds something else, or a stream of other settings or another source.
    """
    if not Path(path).exists():
        return begun(feed, wanted)
    found = load_model(path, {**stored_classes(), **STATES}).state
    if isinstance(found, Stream):
        found = Streamed(found, {"source": "partial_fit"})
    if not isinstance(found, Streamed):
        raise ValueError(f"{path}: expected a model that gmmdask stream published, found one of a fit.")
    old, new = fixed(found.stream), fixed(wanted)
    names = FIXED[:-1] if any_seed else FIXED
    told = "; ".join(f"{name}: {old[name]!r} then, {new[name]!r} now" for name in names if old[name] != new[name])
    if told:
        raise ValueError(f"{path}: a stream of other settings ({told}). Give it the same, or another output.")
    then, now = found.position["source"], feed.address
    if continues and then == now != STANDARD_INPUT:
        raise ValueError(f"{feed.name}: --continues would take the rows of this source a second time. Leave it out.")
    if not continues and then != now:
        raise ValueError(
            f"{path}: a stream from {then}, not from {now}. Give it the same source, or --continues if this one goes "
            "on where that one stopped."
        )
    return replace(found, position=feed.beginning) if continues else found


def fixed(stream: Stream) -> dict[str, Any]:
    """Settings that may not change: those of `FIXED`."""
    told = {**stream.settings, **stream.settings["algorithm"]}
    return {**told, "rate": "power" if told["rate"] == "auto" else told["rate"]}
