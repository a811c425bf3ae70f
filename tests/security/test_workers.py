"""Laws of the processes of `--workers`: nobody else on the machine can reach them, and what they leave is removed."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import dask
import psutil
import pytest
from distributed import Client, LocalCluster
from distributed.comm.tcp import TCP
from distributed.protocol.pickle import dumps
from distributed.security import Security
from geoi2i.core.output import dask_cluster as clusters
from geoi2i.core.output import scratch
from tornado.tcpclient import TCPClient

sys.path.insert(0, str(Path(__file__).parent.parent))
from conftest import picture, write


def listening():
    """(address, port) of every TCP socket at which this process or one of its children listens."""
    me = psutil.Process()
    return {tuple(each.laddr) for process in (me, *me.children(recursive=True))
            for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN}


@pytest.fixture(scope="module")
def before():
    return listening()


@pytest.fixture(scope="module")
def cluster(before):
    gc.collect()  # a client that failed in an earlier test stops Dask from starting when it goes during the start
    with clusters.local_cluster(2) as found:
        yield found


def nodes(client):
    """Addresses of the scheduler, the workers and their nannies, each with what has it run a function."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return [(client.scheduler.address, "run_function"), *((address, "run") for address in workers),
            *((facts["nanny"], "run") for facts in workers.values())]


def stranger():
    """A client's TLS that takes any server and shows a certificate of its own."""
    context = Security.temporary().get_connection_args("client")["ssl_context"]
    context.verify_mode = ssl.CERT_NONE
    return context


def keyless():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def command(address, operation, marker, context):
    """Tells a node to make a file, in Dask's protocol; what refuses it may do so at any word."""
    place = urlsplit(address)
    with contextlib.suppress(OSError, TimeoutError):
        stream = await TCPClient().connect(place.hostname, place.port, ssl_options=context)
        comm = TCP(stream, "tcp://127.0.0.1:1", "tcp://127.0.0.1:2")
        await comm.write(comm.handshake_info())
        await comm.write({"op": operation, "function": dumps(marker.touch), "args": dumps(()), "kwargs": dumps({}),
                          "wait": True, "reply": True})
        for _ in range(2):  # their word of greeting, then what became of ours
            await asyncio.wait_for(comm.read(), 3)


@pytest.mark.parametrize("context", [lambda: None, keyless, stranger], ids=["plain", "no key", "another key"])
def test_who_lacks_the_key_has_no_node_run_anything(cluster, tmp_path, context):
    there = nodes(cluster.client)
    assert len(there) == 5
    for k, (address, operation) in enumerate(there):
        asyncio.run(command(address, operation, tmp_path / str(k), context()))
    assert os.listdir(tmp_path) == []


def test_the_same_words_make_an_open_cluster_run_them(tmp_path):
    """Or the law above would hold of anything."""
    with LocalCluster(n_workers=1, processes=False, protocol="tcp://", dashboard_address=None,
                      local_directory=tmp_path / "dask") as opened:
        places = [(opened.scheduler_address, "run_function"), (opened.workers[0].address, "run")]
        for k, (address, operation) in enumerate(places):
            asyncio.run(command(address, operation, tmp_path / str(k), None))
    assert (tmp_path / "0").exists() and (tmp_path / "1").exists()


@pytest.mark.parametrize("security", [None, Security.temporary], ids=["no key", "another key"])
@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_a_client_without_the_key_cannot_connect(cluster, scheme, security):
    address = cluster.client.scheduler.address.replace("tls://", f"{scheme}://")

    async def connect():
        client = Client(address, timeout=2, security=security and security(), asynchronous=True)
        try:
            await client
        finally:
            await client.close()

    with pytest.raises((OSError, TypeError, RuntimeError)):
        asyncio.run(connect())


def test_all_that_listens_does_so_on_this_machine_and_only_with_tls(cluster, before):
    found = listening() - before
    assert len(found) == 5 and {address for address, _ in found} == {"127.0.0.1"}
    assert {port for _, port in found} == {urlsplit(address).port for address, _ in nodes(cluster.client)}
    for place in found:
        with contextlib.suppress(ConnectionResetError), socket.create_connection(place, 3) as asked:
            asked.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            assert b"HTTP" not in asked.recv(1000)
        with socket.create_connection(place, 3) as asked, pytest.raises(OSError):
            with stranger().wrap_socket(asked) as inside:
                inside.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                if inside.recv(1000) == b"":
                    raise ConnectionResetError


def test_no_module_can_be_planted_where_nodes_import_from(cluster):
    """Dask puts the folders of its nodes first in the search path."""
    folders = [cluster.client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.local_directory),
               *cluster.client.run(lambda dask_worker: dask_worker.local_directory).values(),
               *cluster.client.run(lambda dask_worker: dask_worker.local_directory, nanny=True).values()]
    assert len(folders) == 5
    for folder in map(Path, folders):
        ours = next(each for each in folder.parents if scratch._NAME.fullmatch(each.name))
        assert ours.stat().st_mode & 0o777 == 0o700 and ours.stat().st_uid == os.getuid()


# --- an existing scheduler ----------------------------------------------------------------------------


def test_a_scheduler_with_tls_is_reached_with_the_certificates_of_dasks_configuration(cluster):
    ours = cluster.client.security
    configured = {"distributed.comm.tls.ca-file": ours.tls_ca_file,
                  "distributed.comm.tls.client.cert": ours.tls_client_cert,
                  "distributed.comm.tls.client.key": ours.tls_client_key}
    with dask.config.set(configured), clusters.existing_cluster(cluster.client.scheduler.address) as found:
        assert found.size == 2


@pytest.mark.parametrize("scheme, configured", [
    ("tls", {}), ("tls", {"TLS__CA_FILE": "gone.pem", "TLS__CLIENT__CERT": "gone.pem"}), ("tcp", {}),
    ("tcp", {"REQUIRE_ENCRYPTION": "True"})], ids=["none", "gone", "plain", "plain is forbidden"])
def test_certificates_that_are_missing_are_a_sentence(cluster, scheme, configured, tmp_path):
    address = cluster.client.scheduler.address.replace("tls://", f"{scheme}://")
    run = subprocess.run(
        [sys.executable, "-m", "geoi2i", "run", "-i", write(tmp_path / "in.tif", picture()), "-m", "identity", "-o",
         str(tmp_path / "out.tif"), "--scheduler", address], capture_output=True, text=True,
        env={**os.environ, **{f"DASK_DISTRIBUTED__COMM__{key}": value for key, value in configured.items()}})
    assert run.returncode == 2 and f"The Dask scheduler at {address} cannot be reached" in run.stderr, run.stderr
    assert "distributed.comm.tls" in run.stderr and "Traceback" not in run.stderr


# --- what is left over --------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The system's temporary folder, empty."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def killed(temporary):
    """The folder of a cluster whose client was killed."""
    program = ("import time; from geoi2i.core.output.dask_cluster import local_cluster\n"
               "if __name__ == '__main__':\n"
               "    with local_cluster(1):\n"
               "        print(flush=True); time.sleep(60)")
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE,
                               env={**os.environ, "TMPDIR": str(temporary)})
    process.stdout.readline()
    folder, = temporary.glob("geoi2i-dask-*")
    with scratch.scratch_folder():
        assert (folder / "work" / "dask-scratch-space").exists(), "a cluster that runs keeps its folder"
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not psutil.wait_procs(workers, timeout=20)[1] and folder.exists()
    return folder


def test_the_folder_of_a_killed_run_goes_with_the_next(temporary, killed):
    with scratch.scratch_folder():
        assert not killed.exists()
    assert list(temporary.glob("geoi2i-*")) == []


def left_over(folder):
    """Makes a folder as one of a killed run, with a file."""
    (folder / "work").mkdir(parents=True)
    (folder / "work" / "file").touch()
    (folder / "lock").touch()
    return folder


def test_nothing_else_is_removed(temporary):
    gone = left_over(temporary / "geoi2i-dask-abcdefg1")
    names = ("geoi2i-dask-", "geoi2i-dask-abcdefg1-mine", "mygeoi2i-dask-abcdefg1", "geoi2i-dask-ABCDEFG1",
             "geoi2i-check-abcdefg1")
    kept = [left_over(temporary / name) for name in names]
    aim = left_over(temporary / "aim")
    (temporary / "geoi2i-dask-abcdefg2").symlink_to(aim)
    (temporary / "geoi2i-dask-abcdefg3").touch()
    unlocked = left_over(temporary / "geoi2i-dask-abcdefg4")
    (unlocked / "lock").unlink()
    linked = left_over(temporary / "geoi2i-dask-abcdefg5")
    (linked / "lock").unlink()
    (linked / "lock").symlink_to(aim / "lock")
    with scratch.scratch_folder():
        assert not gone.exists()
    assert all((each / "work" / "file").exists() for each in (*kept, aim, unlocked, linked))
    assert (temporary / "geoi2i-dask-abcdefg2").is_symlink() and (temporary / "geoi2i-dask-abcdefg3").exists()


def test_folders_of_another_user_stay(temporary, monkeypatch):
    theirs = left_over(temporary / "geoi2i-dask-abcdefg1")
    monkeypatch.setattr(os, "getuid", lambda: theirs.stat().st_uid + 1)
    with scratch.scratch_folder():
        pass
    assert theirs.exists()


@pytest.mark.parametrize("name, value", [("_SWEEPS", False), ("try_lock", lambda file: None),
                                         ("try_lock", lambda file: False)], ids=["Windows", "no locks", "held"])
def test_where_no_lock_is_had_what_is_left_over_stays(name, value, temporary, monkeypatch):
    monkeypatch.setattr(scratch, name, value)
    stays = left_over(temporary / "geoi2i-dask-abcdefg1")
    with scratch.scratch_folder() as ours:
        assert ours.is_dir() and not (ours.parent / "lock").exists()
    assert os.listdir(temporary) == [stays.name]


def test_what_a_link_in_a_left_over_folder_shows_stays(temporary):
    aim = left_over(temporary / "aim")
    folder = left_over(temporary / "geoi2i-dask-abcdefg1")
    (folder / "work" / "link").symlink_to(aim)
    with scratch.scratch_folder():
        assert not folder.exists()
    assert (aim / "work" / "file").exists()
