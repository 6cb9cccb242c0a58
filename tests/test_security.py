"""Who can reach a local cluster, and TLS to a cluster elsewhere."""

import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import dask.config
import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from distributed import LocalCluster, Security

from gmmdask.cli import main
from gmmdask.execution.distributed import Cluster, local_cluster, security
from gmmdask.model_file import Model, save_model
from gmmdask.synthetic import random_mixture


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    """Where a process and those that it started listen."""
    found = [process, *process.children(recursive=True)]
    connections = [connection for one in found for connection in one.net_connections("inet")]
    return {(*connection.laddr,) for connection in connections if connection.status == psutil.CONN_LISTEN}


def dashboard_of(executor: Cluster) -> int:
    """The HTTP status of the page on which a dashboard begins."""
    port = executor.client.scheduler_info()["services"]["dashboard"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as page:
            return int(page.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.timeout(60)
def test_a_local_cluster_listens_on_loopback_only_and_has_no_dashboard_unless_asked() -> None:
    before = listening(psutil.Process())
    # a cluster of an earlier test may have left a page there that tells how to install a dashboard
    routes = [route for route in dask.config.get("distributed.scheduler.http.routes") if "bokeh" not in route]
    with dask.config.set({"distributed.scheduler.http.routes": routes}), local_cluster(1) as executor:
        assert {address for address, _ in listening(psutil.Process()) - before} == {"127.0.0.1"}
        assert dashboard_of(executor) == 404
    with dask.config.set({"gmmdask.dashboard": "127.0.0.1:0"}):
        asked = local_cluster(0)
    assert dashboard_of(asked) == 200
    asked.__exit__()


def certificate(folder: Path, name: str, authority: str | None = None) -> dict[str, Path]:
    """A certificate and its key, signed by an authority or by itself."""
    files = {"cert": folder / f"{name}.pem", "key": folder / f"{name}.key"}
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    signed = [] if authority is None else ["-CA", f"{authority}.pem", "-CAkey", f"{authority}.key"]
    rest = ["-subj", f"/CN={name}", "-days", "2", "-keyout", str(files["key"]), "-out", str(files["cert"])]
    subprocess.run([*new, *signed, *rest], check=True, capture_output=True, cwd=folder)
    return files


@pytest.mark.timeout(60)
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates")
def test_tls(tmp_path: Path) -> None:
    authority, mine = certificate(tmp_path, "authority"), certificate(tmp_path, "mine", "authority")
    stranger = certificate(tmp_path, "stranger")
    save_model(tmp_path / "m", Model(random_mixture(2, 2, seed=0), {}))
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(500, 2)))
    roles = ("scheduler", "worker", "client")
    files = {f"tls_{role}_{kind}": str(mine[kind]) for role in roles for kind in ("cert", "key")}
    trusting = Security(tls_ca_file=str(authority["cert"]), require_encryption=True, **files)

    def score(scheduler: str, given: dict[str, Path]) -> tuple[int, str]:
        options = [text for name, path in given.items() for text in (f"--tls-{name}", str(path))]
        command = ["score", str(tmp_path / "rows.npy"), "-m", str(tmp_path / "m"), "--scheduler", scheduler, *options]
        result = CliRunner().invoke(main, command)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.stderr

    trusted = {"ca-file": authority["cert"]}
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, protocol="tls", host="127.0.0.1", security=trusting,
                     dashboard_address=None) as cluster,
        dask.config.set({"gmmdask.connect-timeout": 1}),
    ):  # fmt: skip
        address = cluster.scheduler_address
        assert score(address, {**trusted, **mine})[0] == 0
        assert score(address, {**trusted, **stranger})[0] == 75  # the scheduler does not know who signed it
        assert score(address, {"ca-file": stranger["cert"], **mine})[0] == 75  # nor does the client
        assert score(address, trusted)[0] == 2
        assert score(address.replace("tls://", "tcp://"), {**trusted, **mine})[0] == 2
        code, said = score(address, {**trusted, "cert": mine["cert"], "key": stranger["key"]})
        assert (code, "cannot be used" in said) == (3, True)
        code, said = score(address, {**trusted, "cert": tmp_path / "nothing.pem"})
        assert (code, "nothing.pem" in said) == (3, True)


def test_certificates_are_read_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nobody\.pem.*cannot be used.*expected PEM files"):
        security(str(tmp_path / "nobody.pem"), str(tmp_path / "nobody.pem"))
