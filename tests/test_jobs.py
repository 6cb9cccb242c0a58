"""Job files, dry runs, run ids, exit codes, and the scripts that submit fits to clusters."""

import json
import re
import runpy
import sys
import types
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Self

import click
import distributed
import numpy as np
import pytest
import yaml
import zarr
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

import gmmdask.cli
from gmmdask.cli import main
from gmmdask.cli._job_file import job_file
from gmmdask.execution import Threads
from gmmdask.execution.distributed import local_cluster
from gmmdask.model_file import load_model
from gmmdask.planning import plan_fit
from gmmdask.testing.strategies import LAW

ROOT = Path(__file__).parents[1]
ROWS = np.random.default_rng(5).normal(size=(900, 2)) + 5 * (np.arange(900)[:, None] % 2)


def run(*arguments: object) -> Result:
    """A command in this process; exceptions that it does not turn into an exit code are raised."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def ended(code: int, *arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == code, result.stderr
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.zarr"
    zarr.create_array(path, data=ROWS, chunks=(100, 2))
    return path


def written(folder: Path, **keys: Any) -> Path:
    (folder / "job.yaml").write_text(yaml.safe_dump(keys))
    return folder / "job.yaml"


# --- job files --------------------------------------------------------------------------------------------------


@click.command
@job_file
@click.argument("data")
@click.option("-k", "--components", type=click.IntRange(1), required=True)
@click.option("--tol", type=float, default=0.5)
@click.option("--name")
@click.option("--how", type=click.Choice(["plain", "json"]), default="plain")
@click.option("--twice", is_flag=True)
@click.option("--add", multiple=True)
def echo(**options: Any) -> None:
    click.echo(json.dumps(options))


def echoed(*arguments: str) -> Any:
    result = CliRunner().invoke(echo, arguments)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("job") / "job.yaml"


words = st.text("abc xyz:#'\"-", min_size=1).filter(lambda word: word.strip() == word and word[0] != "-")
values = st.fixed_dictionaries(
    {"data": words, "components": st.integers(1, 99)},
    optional={
        "tol": st.floats(0, 1e9, allow_nan=False),
        "name": words | st.sampled_from(["null", "2026-01-01", "no", "1_0", "~"]),
        "how": st.sampled_from(["plain", "json"]),
        "twice": st.booleans(),
        "add": st.lists(words, max_size=3),
    },
)


@LAW
@given(chosen=values)
def test_a_job_file_means_what_the_command_line_does(job: Path, chosen: dict[str, Any]) -> None:
    line: list[str] = []
    for name, value in chosen.items():
        if name == "twice":
            line += ["--twice"] * value
        elif name != "data":
            line += [f"--{name}={one}" for one in (value if isinstance(value, list) else [value])]
    job.write_text(yaml.safe_dump(chosen))
    assert echoed("--config", str(job)) == echoed(*line, "--", chosen["data"])


def test_the_command_line_wins_and_null_is_nothing(job: Path) -> None:
    job.write_text("data: there\nk: 3\ntol: null\nname:\nhow: json\nadd: one\ntwice: yes\n")
    found = echoed("--config", str(job))
    assert found == {"data": "there", "components": 3, "tol": 0.5, "name": None, "how": "json", "twice": True,
                     "add": ["one"]}  # fmt: skip
    found = echoed("here", "--config", str(job), "--components", "4", "--how", "plain", "--add", "two", "--tol", "1")
    assert (found["data"], found["components"], found["how"], found["add"]) == ("here", 4, "plain", ["two"])
    job.write_text("")
    assert echoed("here", "-k", "2", "--config", str(job))["components"] == 2


BAD = {
    "conponents: 3": r"line 1: unknown key conponents; did you mean components\?",
    "data: x\nnonsense: 3": "line 2: unknown key nonsense; expected one of add, components, data",
    "config: other.yaml": "unknown key config",
    "help: true": "unknown key help",
    "components: 0": "line 1: components: 0 is not in the range x>=1",
    "components: 2.5": "components: '2.5' is not a valid integer range",
    "components: true": "components: 'true' is not a valid integer",
    "components: [1, 2]": "components: '1,2' is not a valid integer",
    "how: loud": "how: 'loud' is not one of 'plain', 'json'",
    "tol: {a: 1}": "tol: expected a value, or a list of values",
    "add: [[1]]": "add: expected a value, or a list of values",
    "twice: perhaps": "twice: 'perhaps' is not a valid boolean",
    "components: 1\nk: 2": "line 2: k was set before in this file",
    "tol: 1\ntol: 2": "line 2: tol was set before in this file",
    "- components": "expected lines such as `components: 16`",
    "components": "expected lines such as `components: 16`",
    "[1]: 2": "expected the name of an option",
    "a: b: c": "not YAML",
    "tol: 1\n---\ntol: 2": "not YAML",
    "[" * 1000: "not YAML",
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:20])
def test_what_a_job_file_may_not_say(job: Path, text: str) -> None:
    job.write_text(text)
    result = CliRunner().invoke(echo, ["--config", str(job)])
    assert result.exit_code == 2
    assert re.search(f"{job}.*{BAD[text]}", " ".join(result.stderr.split()))


def test_tags_of_a_job_file_make_nothing(job: Path, tmp_path: Path) -> None:
    """YAML that would run code in other readers is text here."""
    job.write_text(f"data: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\ncomponents: !!python/none 3\n")
    result = CliRunner().invoke(echo, ["--config", str(job)])
    assert result.exit_code == 2
    assert not (tmp_path / "made").exists()


def test_every_command_takes_its_job_file(data: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "m", tmp_path / "out"
    fit = written(tmp_path, data=str(data), components=2, output=str(model), seed=1, **{"max-iter": 3})
    ended(0, "fit", "--config", fit)
    settings = load_model(model).provenance["settings"]
    assert (settings["n_components"], settings["seed"], settings["algorithm"]["max_iter"]) == (2, 1, 3)
    climb = {"algorithm": "gradient", "optimizer": "adam", "learning-rate": 0.02, "weight-concentration": 2.5}
    known = {"data": str(data), "components": 2, "output": str(tmp_path / "climb"), "max-iter": 3}
    ended(0, "fit", "--config", written(tmp_path, **known, **climb))
    settings = load_model(tmp_path / "climb").provenance["settings"]
    assert (settings["algorithm"]["optimizer"], settings["algorithm"]["learning_rate"]) == ("adam", 0.02)
    assert settings["weight_concentration"] == 2.5
    what = ["labels", "score"]
    predict = written(tmp_path, data=str(data), model=str(model), output=str(out), what=what)
    ended(0, "predict", "--config", predict)
    assert set(zarr.open_group(out, mode="r")) == {"labels", "score"}
    ended(0, "score", "--config", written(tmp_path, data=str(data), model=str(model), threads=1))
    ended(0, "update", "--config", written(tmp_path, data=[str(data)], model=str(model), output=str(tmp_path / "u")))
    ended(0, "stream", "--config", written(tmp_path, source=str(data), k=2, output=str(tmp_path / "s"), rate=0.5))
    ended(0, "sample", "--config", written(tmp_path, rows=10, output=str(tmp_path / "rows.npy")))
    ended(0, "doctor", "--config", written(tmp_path, data=str(data), components=2))
    assert len(np.load(tmp_path / "rows.npy")) == 10
    said = ended(3, "fit", "--config", tmp_path / "nothing.yaml").stderr
    assert "nothing.yaml: no such job file" in said


# --- dry runs ---------------------------------------------------------------------------------------------------


def test_a_dry_run_reads_headers_only_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.zarr"
    zarr.create_array(path, shape=(40_000, 3), chunks=(1000, 3), dtype="f4", fill_value=1)[:] = 2
    for chunk in (path / "c").rglob("0"):
        if chunk.is_file():
            chunk.write_bytes(b"no chunk")
    command = ("fit", path, "-k", 3, "-o", tmp_path / "m", "--checkpoint", tmp_path / "c", "--max-iter", 7)
    limited = (*command, "--memory-limit", "300MB", "--sample-rows", 500, "--threads", 1)
    found = json.loads(ended(0, *limited, "--dry-run", "--log-format", "json").stdout)
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.zarr"]
    wanted = {"rows": 40_000, "features": 3, "dtype": "float32", "chunk_rows": 1000, "laps_at_most": 7}
    assert wanted.items() <= found.items()
    assert (found["bytes_per_pass"], found["sample_rows"], found["memory_limit"]) == (480_000, 500, 300_000_000)
    assert found["peak_bytes"] <= 300_000_000
    assert found["peak_bytes"] == found["driver_bytes"] + found["task_bytes"] + found["cached_bytes"]
    assert (found["reads_at_most"], found["parts"]) == (1, 8)  # cached after the first look
    uncached = json.loads(ended(0, *limited, "--cache", "never", "--dry-run", "--log-format", "json").stdout)
    assert uncached["reads_at_most"] == 8
    assert "peak_bytes" in ended(0, *command, "--dry-run").stdout
    ended(3, *limited)  # the fit itself finds the chunks


def test_a_dry_run_forecasts_what_the_fit_then_has(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plans = []
    monkeypatch.setattr("gmmdask.job.plan_fit", lambda *args: plans.append(plan_fit(*args)) or plans[-1])
    command = ("fit", data, "-k", 2, "-o", tmp_path / "m", "--algorithm", "stochastic", "--threads", 2)
    found = json.loads(ended(0, *command, "--dry-run", "--log-format", "json").stdout)
    ended(0, *command)
    ((plan, memory),) = plans
    assert (found["parts"], found["block_rows"], found["steps_per_lap"]) == (
        len(plan.parts),
        plan.block_rows,
        plan.steps,
    )
    assert (found["peak_bytes"], found["task_bytes"], found["tasks_at_once"]) == (
        memory.peak,
        memory.task,
        memory.tasks,
    )
    ended(3, *command, "--dry-run")  # the output exists


# --- run ids and exit codes -------------------------------------------------------------------------------------


def test_json_lines_and_the_model_carry_one_run_id_a_run(data: Path, tmp_path: Path) -> None:
    ids = []
    for name in ("first", "second"):
        end = ended(0, "fit", data, "-k", 2, "-o", tmp_path / name, "--log-format", "json")
        told = {json.loads(line)["run_id"] for line in end.stderr.splitlines()}
        assert told == {load_model(tmp_path / name).provenance["run_id"]}
        ids += told
        assert ids[-1] in ended(0, "inspect", tmp_path / name).stdout
    assert len(set(ids)) == 2
    failed = json.loads(ended(3, "fit", data, "-k", 2, "-o", tmp_path / "first", "--log-format", "json").stderr)
    assert failed["run_id"] not in ids
    assert (failed["event"], failed["exit"]) == ("Failed", 3)
    end = ended(0, "stream", data, "-k", 2, "-o", tmp_path / "s", "--log-format", "json")
    assert json.loads(end.stderr.splitlines()[-1])["run_id"] == load_model(tmp_path / "s").provenance["run_id"]
    ended(0, "update", data, "-m", tmp_path / "first", "-o", tmp_path / "u")
    assert load_model(tmp_path / "u").provenance["run_id"] not in ids


CODES: list[tuple[BaseException, int, str]] = [
    (ValueError("bad"), 3, "bad"),
    (PermissionError(13, "denied", "rows.zarr"), 3, "rows.zarr"),
    (IsADirectoryError(21, "a folder", "m.gmm"), 3, "m.gmm"),
    (MemoryError("8 GB"), 3, "out of memory (8 GB): set a --memory-limit"),
    (OSError(28, "no space left"), 75, "no space left"),
    (TimeoutError("late"), 75, "late"),
    (distributed.comm.CommClosedError("gone"), 75, "gone"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (gmmdask.cli.Terminated(), 143, "terminated"),
]


@pytest.mark.parametrize(("error", "code", "words"), CODES, ids=lambda value: type(value).__name__)
def test_exit_codes_say_whether_to_try_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    def fails(*args: object) -> None:
        raise error

    monkeypatch.setattr("gmmdask.job.Job.run", fails)
    assert words in ended(code, "fit", data, "-k", 2, "-o", tmp_path / "m").stderr


def test_a_fault_of_the_package_is_no_exit_code(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gmmdask.job.Job.run", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("fit", data, "-k", 2, "-o", tmp_path / "m")


def test_dask_gmm_is_this_command(data: Path, tmp_path: Path) -> None:
    (entry,) = entry_points(group="dask_cli", name="gmm")
    dask = click.Group("dask", commands={entry.name: entry.load()})
    fit = ["gmm", "fit", str(data), "-k", "2", "-o", str(tmp_path / "m"), "--threads", "1"]
    assert [CliRunner().invoke(dask, fit).exit_code for _ in range(2)] == [0, 3]
    assert load_model(tmp_path / "m").mixture.n_components == 2


# --- scripts that submit ----------------------------------------------------------------------------------------

SCRIPTS = sorted((ROOT / "scripts" / "submit").glob("*.py"))


class Recorder:
    """A stand-in for what starts a cluster: takes the keywords that the real one has, and notes what is done to it."""

    def __init__(self, keywords: str) -> None:
        self.keywords = set(keywords.split())
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, **given: Any) -> Self:
        assert set(given) <= self.keywords
        self.calls.append(("made", given))
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.calls.append(("closed", {}))

    def adapt(self, **given: Any) -> None:
        self.calls.append(("adapt", given))

    def wait_for_workers(self, n: int) -> None:
        self.calls.append(("waited", {"n": n}))


# keywords as dask-jobqueue 0.9, dask-kubernetes 2026.3, coiled 1.135 and dask-mpi 2026.3 have them
CLUSTERS: dict[str, tuple[str, str, str, list[str], list[tuple[str, dict[str, Any]]]]] = {
    "on_slurm": (
        "dask_jobqueue",
        "SLURMCluster",
        "queue account interface walltime cores processes memory",
        ["--jobs", "3", "--memory", "2GB", "--walltime", "00:10:00", "--queue", "short"],
        [
            (
                "made",
                {
                    "queue": "short",
                    "account": None,
                    "interface": None,
                    "walltime": "00:10:00",
                    "cores": 1,
                    "processes": 1,
                    "memory": "2GB",
                },
            ),
            ("adapt", {"minimum_jobs": 3, "maximum_jobs": 3}),
        ],
    ),
    "on_kubernetes": (
        "dask_kubernetes.operator",
        "KubeCluster",
        "name namespace image n_workers resources env",
        ["--image", "here/gmmdask:1", "--workers", "2", "--memory", "1Gi"],
        [
            (
                "made",
                {
                    "name": "gmmdask",
                    "namespace": None,
                    "image": "here/gmmdask:1",
                    "n_workers": 2,
                    "resources": {
                        "requests": {"memory": "1Gi", "cpu": "1"},
                        "limits": {"memory": "1Gi", "cpu": "1"},
                    },
                },
            )
        ],
    ),
    "on_coiled": (
        "coiled",
        "Cluster",
        "name n_workers worker_memory region",
        ["--workers", "5", "--region", "eu-central-1"],
        [("made", {"name": None, "n_workers": 5, "worker_memory": "8GiB", "region": "eu-central-1"})],
    ),
    "on_mpi": (
        "dask_mpi",
        "initialize",
        "interface nthreads memory_limit dashboard",
        ["--memory", "2GB"],
        [("made", {"interface": None, "nthreads": 1, "memory_limit": "2GB", "dashboard": False})],
    ),
}


def started(script: Path, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    return lambda: runpy.run_path(str(script), run_name="__main__")


def test_there_is_a_script_for_each_kind_of_cluster() -> None:
    assert {path.stem for path in SCRIPTS} == {"on_address", *CLUSTERS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_explain_themselves_without_their_packages(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("dask_jobqueue", "dask_kubernetes", "coiled", "dask_mpi", "distributed", "gmmdask"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it is an error
    with pytest.raises(SystemExit) as end:
        started(script, "--help", monkeypatch=monkeypatch)()
    assert end.value.code == 0
    assert f"scripts/submit/{script.name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", CLUSTERS)
def test_scripts_start_their_cluster_and_fit_on_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package, attribute, keywords, options, wanted = CLUSTERS[name]
    cluster, fits, clients = Recorder(keywords), list[list[str]](), list[tuple[object, ...]]()

    def client(*args: object) -> Recorder:
        clients.append(args)
        return Recorder("") if name == "on_mpi" else cluster

    fake = types.ModuleType(package)
    setattr(fake, attribute, cluster)
    monkeypatch.setitem(sys.modules, package.partition(".")[0], types.ModuleType(package.partition(".")[0]))
    monkeypatch.setitem(sys.modules, package, fake)
    monkeypatch.setattr(distributed, "Client", client)
    monkeypatch.setattr(gmmdask.cli, "main", fits.append)
    script = ROOT / "scripts" / "submit" / f"{name}.py"
    started(script, "job.yaml", *options, "--memory-limit", "1GB", monkeypatch=monkeypatch)()
    assert fits == [["fit", "--config", "job.yaml", "--memory-limit", "1GB"]]
    assert clients == [() if name == "on_mpi" else (cluster,)]  # the client that a fit without an address takes
    assert [call for call in cluster.calls if call[0] in ("made", "adapt")] == wanted
    assert name == "on_mpi" or cluster.calls[-1][0] == "closed"


@pytest.mark.timeout(120)
def test_scripts_fit_on_a_real_cluster(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By address; and through the current client, as the scripts that start a cluster do."""
    submit, job = ROOT / "scripts" / "submit", written(tmp_path, data=str(data), components=2, seed=0)
    with local_cluster(1) as executor:
        address, client = executor.client.scheduler.address, executor.client
        command = started(
            submit / "on_address.py", address, str(job), "-o", str(tmp_path / "a"), monkeypatch=monkeypatch
        )
        with pytest.raises(SystemExit, match="0"):
            command()
        with client.as_current():
            told = ended(0, "fit", "--config", job, "-o", tmp_path / "b").stderr
        dry = json.loads(
            ended(0, "fit", "--config", job, "-o", tmp_path / "d", "--scheduler", address, "--dry-run",
                  "--log-format", "json").stdout
        )  # fmt: skip
        assert (dry["runs_on"], dry["tasks_at_once"]) == (f"cluster {address}", 0)
        assert client.status == "running"
    assert f"on cluster {address}" in told
    ended(0, "fit", "--config", job, "-o", tmp_path / "c", "--threads", 1)
    here = load_model(tmp_path / "c").mixture.means.tobytes()
    assert all(load_model(tmp_path / name).mixture.means.tobytes() == here for name in "ab")


@pytest.mark.parametrize(("codes", "last"), [([75, 75, 0], 0), ([75, 3], 3), ([75, 75, 75], 75), ([0], 0)])
def test_a_fit_at_an_address_is_tried_again_after_75_only(
    codes: list[int], last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def fit(command: list[str]) -> None:
        commands.append(command)
        sys.exit(codes[len(commands) - 1])

    monkeypatch.setattr(gmmdask.cli, "main", fit)
    script = ROOT / "scripts" / "submit" / "on_address.py"
    options = ("tcp://there:1", "job.yaml", "--retries", "2", "--pause", "0", "--overwrite")
    with pytest.raises(SystemExit) as end:
        started(script, *options, monkeypatch=monkeypatch)()
    assert end.value.code == last
    assert len(commands) == len(codes)
    first = ["fit", "--config", "job.yaml", "--scheduler", "tcp://there:1", "--overwrite"]
    assert commands[0] == first
    assert all(command[-1] == "--resume" for command in commands[1:])


def test_threads_are_the_default_where_no_client_is(data: Path, tmp_path: Path) -> None:
    assert f"on {Threads().name}" in ended(0, "fit", data, "-k", 2, "-o", tmp_path / "m").stderr
