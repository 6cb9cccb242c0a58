"""gmmdask stream: what it publishes, that no row is lost or counted twice, and what it refuses."""

import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner, Result

from gmmdask import GaussianMixture
from gmmdask.algorithms import Stochastic
from gmmdask.cli import Terminated, main
from gmmdask.cli.stream import Signals
from gmmdask.compiled import fast_kernel
from gmmdask.feeds import Batch, Feed, Wait, open_feed
from gmmdask.feeds.pipe import PipeFeed
from gmmdask.model_file import load_model
from gmmdask.outcome import Event, Published
from gmmdask.progress import stored_classes
from gmmdask.publish import Publisher, begun, resumed
from gmmdask.start import Start
from gmmdask.stream import STATES, Stream, Streamed
from gmmdask.synthetic import random_mixture

K, D, N = 3, 2, 3000
ROWS = random_mixture(K, D, "full", seed=7).sample(N, np.random.default_rng(7))[0]
SET = ("-k", str(K), "--seed", "3", "--sample-rows", "200", "--log-format", "json")
STREAM = Stream(Start("full", K), Stochastic(rate="power"), seed=3, start_rows=200, kernel=fast_kernel("auto"))


def npy(*blocks: np.ndarray) -> bytes:
    file = io.BytesIO()
    for block in blocks:
        np.save(file, block)
    return file.getvalue()


def blocks(rows: np.ndarray, size: int = 70) -> bytes:
    return npy(*(rows[at : at + size] for at in range(0, len(rows), size)))


def lines(rows: np.ndarray) -> bytes:
    return "".join(",".join(map(repr, row)) + "\n" for row in rows.tolist()).encode()


def table(path: Path, rows: np.ndarray) -> None:
    """Written beside its place, then renamed."""
    pq.write_table(pa.table({"x": rows[:, 0], "y": rows[:, 1]}), path.with_name(f".{path.name}"), row_group_size=90)
    path.with_name(f".{path.name}").rename(path)


def tables(folder: Path, rows: np.ndarray = ROWS, files: int = 4) -> Path:
    folder.mkdir()
    for i, part in enumerate(np.array_split(rows, files)):
        table(folder / f"{i}.parquet", part)
    return folder


def stored(path: Path, rows: np.ndarray = ROWS) -> Path:
    zarr.create_array(path, data=rows, chunks=(80, D), overwrite=True)
    return path


def run(*arguments: object, data: bytes = b"") -> Result:
    """A command in this process; exceptions that it does not turn into an exit code are raised."""
    result = CliRunner().invoke(main, ["stream", *(str(argument) for argument in arguments)], input=data)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*arguments: object, data: bytes = b"") -> dict[str, Any]:
    result = run(*arguments, *SET, data=data)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout, parse_constant=pytest.fail)


def failed(code: int, *arguments: object, data: bytes = b"") -> str:
    result = run(*arguments, data=data)
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def taken(path: Path) -> Streamed:
    found = load_model(path, {**stored_classes(), **STATES}).state
    assert isinstance(found, Streamed)
    return found


def bits(path: Path) -> bytes:
    mixture, stream = load_model(path).mixture, taken(path).stream
    assert stream.rows is not None
    return b"".join(array.tobytes() for array in (mixture.weights, mixture.means, mixture.covariances, stream.rows))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What all rows teach in one go."""
    path = tmp_path_factory.mktemp("whole") / "m"
    np.save(path.with_name("r.npy"), ROWS)
    assert done(path.with_name("r.npy"), "-o", path)["rows"] == N
    mixture = STREAM.taking(ROWS).mixture
    assert mixture is not None
    assert load_model(path).mixture.means.tobytes() == mixture.means.tobytes()
    return bits(path)


# --- sources ---------------------------------------------------------------------------------------------------

SOURCES: dict[str, Callable[[Path], tuple[object, bytes]]] = {
    "Zarr": lambda f: (stored(f / "r.zarr"), b""),
    "a folder": lambda f: (tables(f / "p"), b""),
    "a pattern": lambda f: (f"{tables(f / 'p')}/*.parquet", b""),
    "blocks": lambda f: ("-", blocks(ROWS)),
    "lines": lambda f: ("-", lines(ROWS)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_teaches_the_same_bits(tmp_path: Path, undisturbed: bytes, name: str) -> None:
    source, data = SOURCES[name](tmp_path)
    told = done(source, "-o", tmp_path / "m", data=data)
    assert bits(tmp_path / "m") == undisturbed
    assert told["rows"] == N
    assert told["outcome"].startswith("a stream: ")


def test_what_is_published_is_a_model_that_goes_on(tmp_path: Path) -> None:
    result = run("-o", tmp_path / "m", *SET, "--every", 0, "--rate", "0.1", "--covariance", "diag", data=blocks(ROWS))
    events = [json.loads(line, parse_constant=pytest.fail) for line in result.stderr.splitlines()]
    assert [event["event"] for event in events] == ["StartChosen"] + 41 * ["Published"]
    assert [event["rows"] for event in events[1:]] == [*range(210, N, 70), N]
    scores = [event["score"] for event in events[1:]]
    assert scores[0] is None
    model = GaussianMixture.load(tmp_path / "m")
    assert scores[-1] == model.stream_.score == json.loads(result.stdout)["score"]
    told = model.provenance_
    assert (told["rows"], told["data"]) == (N, {"kind": "stream", "address": "standard input"})
    assert (told["settings"]["algorithm"]["rate"], told["settings"]["covariance_type"]) == (0.1, "diag")
    more = model.partial_fit(ROWS).stream_
    assert more.taken == 2 * N
    shown = CliRunner().invoke(main, ["inspect", str(tmp_path / "m")])
    assert "standard input" in shown.stdout


def test_publications_wait_for_their_time(tmp_path: Path) -> None:
    result = run("-o", tmp_path / "m", *SET, "--every", 3600, data=blocks(ROWS))
    told = [json.loads(line) for line in result.stderr.splitlines()]
    assert [event["rows"] for event in told if event["event"] == "Published"] == [210, N]


def test_plain_words(tmp_path: Path) -> None:
    result = run("-o", tmp_path / "m", "-k", K, data=blocks(ROWS))
    assert re.search(r"3,000 rows  score of recent rows -\d+\.\d+  published to .*/m\n", result.stderr)
    assert "components" in result.stdout


# --- killed and resumed ----------------------------------------------------------------------------------------


def publications(path: Path, source: Any, data: bytes) -> list[bytes]:
    """Every file that a stream publishes: what a kill at any moment would leave."""
    found: list[bytes] = []

    def keep(event: Event) -> None:
        if isinstance(event, Published):
            found.append(path.read_bytes())

    feed = PipeFeed(io.BytesIO(data)) if source == "-" else open_feed(str(source))
    Publisher(str(path), feed, begun(feed, STREAM), 0.0, keep).run()
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_whatever_publication_a_kill_leaves_it_resumes_to_the_same_bits(
    tmp_path: Path, undisturbed: bytes, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sources.zarr", "sources.parquet", "feeds.pipe"):
        monkeypatch.setattr(f"gmmdask.{module}.READ_BYTES", 1600)
    monkeypatch.setattr("gmmdask.feeds.pipe.CHUNK", 3000)
    (source, data), model = SOURCES[name](tmp_path), tmp_path / "m"
    left = publications(model, source, data)
    assert len(left) > 20
    for content in left[:: len(left) // 10]:
        model.write_bytes(content)
        feed = PipeFeed(io.BytesIO(data)) if source == "-" else open_feed(str(source))
        state = resumed(str(model), feed, STREAM, any_seed=False, continues=False)
        Publisher(str(model), feed, state, 3600.0, lambda event: None).run()
        assert bits(model) == undisturbed
        assert taken(model).stream.taken == N


def test_a_resumed_command_takes_what_is_left_and_then_nothing(tmp_path: Path, undisturbed: bytes) -> None:
    model, folder = tmp_path / "m", tables(tmp_path / "p", ROWS[:1000], 2)
    done(folder, "-o", model, "--resume")  # there is nothing to go on from: it begins
    table(folder / "+.parquet", ROWS[1000:])
    assert done(folder, "-o", model, "--resume")["rows"] == N
    assert bits(model) == undisturbed
    before = model.read_bytes()
    assert done(folder, "-o", model, "--resume")["rows"] == N
    assert model.read_bytes() == before


def test_input_that_goes_on_where_it_stopped(tmp_path: Path, undisturbed: bytes) -> None:
    model = tmp_path / "m"
    done("-o", model, data=lines(ROWS[:1111]))
    done("-o", model, "--resume", "--continues", data=blocks(ROWS[1111:]))
    assert bits(model) == undisturbed
    assert taken(model).position == {"source": "-", "rows": N - 1111}


def test_a_kill_of_input_that_goes_on_counts_nothing_twice(tmp_path: Path, undisturbed: bytes) -> None:
    """From the first publication on, the position is one in the new input, so that this can be sent again."""
    model = tmp_path / "m"
    done("-o", model, data=lines(ROWS[:1111]))
    for rows in (ROWS[1111:1111], ROWS[1111:2000]):
        done("-o", model, "--resume", "--continues" if not len(rows) else "--resume", data=lines(rows))
    done("-o", model, "--resume", data=lines(ROWS[1111:]))
    assert bits(model) == undisturbed


def test_a_source_that_goes_on_where_another_stopped(tmp_path: Path, undisturbed: bytes) -> None:
    model, first, second = tmp_path / "m", tables(tmp_path / "p", ROWS[:999]), stored(tmp_path / "r.zarr", ROWS[999:])
    done(first, "-o", model)
    before = model.read_bytes()
    words = (second, "-o", model, "--resume", *SET)
    assert re.search(r"a stream from .*/p, not from .*r.zarr.*--continues", failed(3, *words))
    assert "--continues would take the rows of this source a second time" in failed(3, first, *words[1:], "--continues")
    assert model.read_bytes() == before
    done(*words[: -len(SET)], "--continues")
    assert bits(model) == undisturbed


def test_what_python_began_goes_on(tmp_path: Path, undisturbed: bytes) -> None:
    model = tmp_path / "m"
    GaussianMixture(K, random_state=3, sample_rows=200).partial_fit(ROWS[:700]).save(model)
    assert "a stream from partial_fit" in failed(3, "-o", model, "--resume", *SET)
    done("-o", model, "--resume", "--continues", data=lines(ROWS[700:]))
    assert bits(model) == undisturbed


# --- in a process of its own: signals, kills, growing sources --------------------------------------------------


class Process:
    """`gmmdask stream`, its events as they come, and an end in any case."""

    def __init__(self, *arguments: object) -> None:
        interruptible = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        code = f"{interruptible} from gmmdask.cli import main; main()"
        words = [sys.executable, "-c", code, "stream", *map(str, arguments), *SET, "--every", "0", "--poll", "0.01"]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *args: object) -> None:
        self.process.kill()
        self.process.communicate()

    def events(self) -> Iterator[dict[str, Any]]:
        assert self.process.stderr is not None
        return map(json.loads, self.process.stderr)

    def until(self, rows: int) -> None:
        """Waits for the publication of so many rows."""
        for event in self.events():
            assert event["event"] != "Failed", event
            if event["event"] == "Published" and event["rows"] >= rows:
                return
        pytest.fail("the process ended")

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()


@pytest.mark.parametrize("encode", [blocks, lines])
def test_a_killed_pipe_resumes_to_the_same_bits(
    tmp_path: Path, undisturbed: bytes, encode: Callable[[np.ndarray], bytes]
) -> None:
    """Killed when nothing is published, at once after the start, and between rows."""
    model = tmp_path / "m"
    with Process("-o", model) as process:
        process.write(encode(ROWS[:199]))
    assert not model.exists()
    for sent in (210, 1500):
        with Process("-o", model, "--resume") as process:
            process.write(encode(ROWS[:sent]))
            process.until(sent - 70)
            process.process.send_signal(signal.SIGKILL)
            process.process.wait()
        assert 200 <= taken(model).stream.taken <= sent
    done("-o", model, "--resume", data=encode(ROWS))
    assert bits(model) == undisturbed


def append(path: Path, rows: np.ndarray) -> None:
    zarr.open_array(path).append(rows)


def add(folder: Path, rows: np.ndarray) -> None:
    table(folder / f"{99 - len(list(folder.glob('*.parquet')))}.parquet", rows)


GROWING: dict[str, tuple[Callable[[Path], Path], Callable[[Path, np.ndarray], None]]] = {
    "Zarr": (lambda f: stored(f / "r.zarr", ROWS[:160]), append),
    "Parquet": (lambda f: tables(f / "p", ROWS[:160], 1), add),
}


@pytest.mark.parametrize(
    ("name", "number", "code"),
    [("Zarr", signal.SIGTERM, 143), ("Parquet", signal.SIGINT, 130), ("Zarr", signal.SIGKILL, -9)],
)
def test_a_source_that_grows_is_followed(
    tmp_path: Path, undisturbed: bytes, name: str, number: signal.Signals, code: int
) -> None:
    (make, grow), model = GROWING[name], tmp_path / "m"
    source = make(tmp_path)
    with Process(source, "-o", model, "--follow") as process:
        for start, stop in [(160, 333), (333, 1210), (1210, 2000)]:
            grow(source, ROWS[start:stop])
            process.until(stop)
        process.process.send_signal(number)
        out, err = process.process.communicate()
        assert process.process.returncode == code
    assert out == b""
    if code > 0:
        assert f"{model} is published: --resume goes on from it" in json.loads(err.splitlines()[-1])["message"]
    assert taken(model).stream.taken == 2000
    grow(source, ROWS[2000:])
    done(source, "-o", model, "--resume")
    assert bits(model) == undisturbed


def test_an_interruption_before_the_start_says_so(tmp_path: Path) -> None:
    source = stored(tmp_path / "r.zarr", ROWS[:160])
    zarr.open_array(source).resize((240, D))
    with Process(source, "-o", tmp_path / "m", "--follow") as process:
        assert next(process.events())["event"] == "StreamWaits"
        process.process.send_signal(signal.SIGTERM)
        _, err = process.process.communicate()
    assert process.process.returncode == 143
    assert "Nothing was published yet: 160 rows are too few for the start" in json.loads(err)["message"]
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_a_good_moment_and_a_second_one_does_not(number: signal.Signals) -> None:
    def ended(*args: object) -> None:
        raise Terminated

    earlier = signal.signal(number, ended)
    try:
        with Signals() as signals:
            signals.check()
            signal.raise_signal(number)
            with pytest.raises(Terminated):
                signals.check()
            with pytest.raises(Terminated):
                signal.raise_signal(number)
        assert signal.getsignal(number) is ended
        signal.signal(number, signal.SIG_IGN)  # as nohup has it
        with Signals() as signals:
            signal.raise_signal(number)
            signals.check()
    finally:
        signal.signal(number, earlier)


class Scripted(Feed):
    """Items at seconds of a clock."""

    name, address, beginning = "a script", "script", {"source": "script", "rows": 0}

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *items: tuple[float, Batch | Wait]) -> None:
        self.now, self.items, self.told = 0.0, items, 0
        monkeypatch.setattr("gmmdask.publish.time.monotonic", lambda: self.now)

    def batches(self, position: Any, d: int | None = None) -> Iterator[Batch | Wait]:
        for now, item in self.items:
            self.now, self.told = now, self.told + 1
            yield item


def batch(start: int, stop: int) -> Batch:
    return Batch(ROWS[start:stop], {"source": "script", "rows": stop})


def test_only_time_without_rows_is_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = [(t, Wait()) for t in (100.0, 100.9, 200.0, 200.9, 201.0, 202.0)]
    items = [waits[0], waits[1], (150.0, batch(0, 900)), *waits[2:]]
    feed = Scripted(monkeypatch, *items)
    Publisher(str(tmp_path / "m"), feed, begun(feed, STREAM), 10, lambda event: None).run(idle_timeout=1.0)
    assert feed.now == 201


def test_rows_that_wait_for_their_time_are_published_while_none_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    items = [(0.0, batch(0, 900)), (1.0, batch(900, 1000)), (9.9, Wait()), (10.0, Wait()), (30.0, Wait())]
    feed = Scripted(monkeypatch, *items)

    def keep(event: Event) -> None:
        if isinstance(event, Published):
            told.append(feed.now)

    Publisher(str(tmp_path / "m"), feed, begun(feed, STREAM), 10, keep).run()
    assert told == [0, 10]


def test_what_was_learned_is_published_when_it_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Scripted(monkeypatch, (0.0, batch(0, 900)), (1.0, batch(900, 1700)), (2.0, batch(1700, 2000)))

    def check() -> None:
        if feed.told == 2:
            raise KeyboardInterrupt

    publisher = Publisher(str(tmp_path / "m"), feed, begun(feed, STREAM), 10, lambda event: None, check)
    with pytest.raises(KeyboardInterrupt) as interrupted:
        publisher.run()
    assert interrupted.value.__notes__ == [f"{tmp_path / 'm'} is published: --resume goes on from it."]
    assert taken(tmp_path / "m").position["rows"] == 1700


def test_how_to_read_is_heeded(tmp_path: Path) -> None:
    array, folder = zarr.open_array(stored(tmp_path / "r.zarr")), tmp_path / "p"
    array.resize((N + 80, D))
    done(tmp_path / "r.zarr", "-o", tmp_path / "m", "--accept-missing")
    assert taken(tmp_path / "m").stream.taken == N + 80
    folder.mkdir()
    pq.write_table(pa.table({"word": ["a"] * N, "y": ROWS[:, 1], "x": ROWS[:, 0]}), folder / "0.parquet")
    assert "columns=[...] (--columns a,b,c)" in failed(3, folder, "-o", tmp_path / "n", *SET)
    done(folder, "-o", tmp_path / "n", "--columns", "x,y")
    assert load_model(tmp_path / "n").feature_names == ("x", "y")
    assert taken(tmp_path / "n").position["columns"] == ["x", "y"]


def test_a_followed_source_that_is_idle_for_too_long(tmp_path: Path, undisturbed: bytes) -> None:
    for source in (stored(tmp_path / "r.zarr"), tables(tmp_path / "p")):
        done(source, "-o", tmp_path / "m", "--overwrite", "--follow", "--poll", 0, "--idle-timeout", 0.01)
        assert bits(tmp_path / "m") == undisturbed


def test_a_missing_chunk_is_told_and_ends_an_idle_stream_as_an_error(tmp_path: Path) -> None:
    array = zarr.open_array(stored(tmp_path / "r.zarr"))
    array.resize((N + 100, D))
    words = (tmp_path / "r.zarr", "-o", tmp_path / "m", *SET, "--follow", "--poll", 0, "--idle-timeout", 0.05)
    said = failed(3, *words).splitlines()
    events = [json.loads(line) for line in said]
    waits = [event["reason"] for event in events if event["event"] == "StreamWaits"]
    assert len(waits) == 1
    assert "row 3000 may not be written yet" in waits[0]
    assert events[-1]["event"] == "Failed"
    assert "--accept-missing" in events[-1]["message"]
    assert taken(tmp_path / "m").stream.taken == N


# --- refused: exit code 3 in words, and the published model stays ----------------------------------------------


def with_nan(rows: np.ndarray, at: int) -> np.ndarray:
    rows = rows.copy()
    rows[at, 1] = np.nan
    return rows


BAD: dict[str, tuple[bytes, str]] = {
    "NaN": (blocks(with_nan(ROWS, 2501)), "standard input, block 35: NaN or infinity.* in row 51: .*Drop or impute"),
    "NaN in text": (lines(with_nan(ROWS, 2501)), "standard input, line 2502: NaN or infinity"),
    "other d": (blocks(ROWS) + npy(np.ones((3, 5))), "block 43 has 5 features, but the stream began with 2"),
    "a cut block": (blocks(ROWS)[:-30], "block 42: the input ended within row"),
    "no number": (lines(ROWS) + b"1,two\n", "line 3001: expected numbers"),
    "fewer rows than before": (blocks(ROWS[:900]), "ended after 900 rows, but 1000 were taken before.*--continues"),
    "other d from the first row on": (
        blocks(np.ones((2000, 3))),
        "block 0 has 3 features, but the stream began with 2",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_leaves_the_model_as_it_was_published(tmp_path: Path, undisturbed: bytes, name: str) -> None:
    (data, words), model = BAD[name], tmp_path / "m"
    done("-o", model, data=blocks(ROWS[:1000]))
    before = model.read_bytes()
    said = failed(3, "-o", model, "--resume", "--every", 3600, *SET, data=data)
    message = json.loads(said.splitlines()[-1])["message"]
    assert re.search(words, message)
    assert f"{model} stays as it was published last: --resume goes on from it" in message
    if not any(json.loads(line)["event"] == "Published" for line in said.splitlines()):
        assert model.read_bytes() == before
    done("-o", model, "--resume", data=blocks(ROWS))
    assert bits(model) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_an_array_that_shrank_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    source, model = stored(tmp_path / "r.zarr"), tmp_path / "m"
    done(source, "-o", model)
    before = model.read_bytes()
    for rows, words in [
        (ROWS[:2999], "3000 rows were taken, but now it has 2999: it has shrunk"),
        (ROWS.astype("f4"), "float64 then, float32 now"),
        (np.ones((4000, 3)), "has 3 features, but the stream began with 2"),
    ]:
        stored(source, rows)
        assert words in failed(3, source, "-o", model, "--resume", *SET)
        assert model.read_bytes() == before


@pytest.mark.parametrize("n", [0, 1, 199])
def test_a_stream_that_ends_before_the_start(tmp_path: Path, n: int) -> None:
    needs = ", and the start of 3 components needs 200" if n else ""
    said = failed(3, "-o", tmp_path / "m", *SET, data=lines(ROWS[:n]))
    assert f"standard input: ended after {n} rows{needs}. Start on fewer rows (--sample-rows), or ask for fewer" in said
    assert not list(tmp_path.iterdir())


OTHER: list[tuple[tuple[object, ...], str]] = [
    (("-k", 2), "n_components: 3 then, 2 now"),
    (("--covariance", "diag"), "covariance_type: 'full' then, 'diag' now"),
    (("--rate", "0.1"), "rate: 'power' then, 0.1 now"),
    (("--rate", "equal"), "rate: 'power' then, 'equal' now"),
    (("--init", "random"), "init_params: 'kmeans' then, 'random' now"),
    (("--reg-covar", "0.5"), "reg_covar: 1e-06 then, 0.5 now"),
    (("--n-init", 2), "n_init: 1 then, 2 now"),
    (("--sample-rows", 300), "sample_rows: 200 then, 300 now"),
    (("--seed", 4), "seed: 3 then, 4 now"),
]


def test_other_settings_are_refused_with_both_values(tmp_path: Path) -> None:
    model = tmp_path / "m"
    done("-o", model, data=blocks(ROWS))
    before = model.read_bytes()
    for change, words in OTHER:
        assert f"m: a stream of other settings ({words})" in failed(3, "-o", model, "--resume", *SET[:6], *change)
        assert model.read_bytes() == before
    again = run("-o", model, "--resume", "-k", 3, "--sample-rows", 200, data=blocks(ROWS))  # without a seed: as before
    assert again.exit_code == 0


def test_outputs_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    model, source = tmp_path / "m", stored(tmp_path / "r.zarr")
    GaussianMixture(K).fit(ROWS).save(model)
    before = model.read_bytes()
    no_rows = tmp_path / "nothing.zarr"
    for words, arguments in {
        "m: exists already. Go on from it with --resume, begin anew with --overwrite": (no_rows, "-o", model),
        "m: expected a model that gmmdask stream published, found one of a fit": (source, "-o", model, "--resume"),
        "no does not exist. Make it first": ("-o", tmp_path / "no" / "m"),
        "this is where the input is read from": (source, "-o", source / "m"),
        "sample_rows=2 rows cannot start 3": (source, "-o", tmp_path / "new", "--sample-rows", 2),
        "nothing.zarr: no such file": (no_rows, "-o", tmp_path / "new"),
        "--follow: standard input": ("-o", tmp_path / "new", "--follow"),
        "has no named columns": (source, "-o", tmp_path / "new", "--columns", "a,b"),
    }.items():
        assert words in failed(3, *arguments, "-k", 3, data=blocks(ROWS))
        assert model.read_bytes() == before
    model.write_bytes(before[:-1])
    assert "truncated or damaged" in failed(3, source, "-k", 3, "-o", model, "--resume")
    done(source, "-o", model, "--overwrite")
    assert taken(model).stream.taken == N


@pytest.mark.parametrize(
    "options",
    [
        ("--resume", "--overwrite"),
        ("--continues",),
        ("--rate", "1"),
        ("--rate", "0"),
        ("--rate", "nan"),
        ("--rate", "fast"),
        ("--every", "-1"),
        ("--follow", "--idle-timeout", "2"),
        ("--covariance", "round"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert "Usage:" in failed(2, stored(tmp_path / "r.zarr"), "-k", 3, "-o", tmp_path / "m", *options)
    assert not (tmp_path / "m").exists()
