"""Laws of reading from servers: the pixels of the local file, through refusals, stalls and answers that are cut off.

The server is on this machine, speaks ranges, and misbehaves on demand.
"""

import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import rasterio
from geoi2i.core.errors import RasterError
from geoi2i.core.grid import Grid
from geoi2i.core.models.package import identity_package
from geoi2i.core.raster import remote
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.run import Compute, reproject_raster, translate_raster

pytestmark = pytest.mark.slow

CPU = Compute(device="cpu")


class Server(ThreadingHTTPServer):
    """Files by path, with a list of what was asked and a list of faults for the requests to come."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, int, int]] = []
        """Path, first byte, bytes sent."""
        self.faults: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that hangs up is none of our business."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(head=True)

    def do_GET(self):
        self.answer(head=False)

    def answer(self, head):
        data = self.server.files.get(self.path.split("?")[0])
        if data is None:
            return self.send_error(404)
        fault = None if head or not self.server.faults else self.server.faults.pop(0)
        if fault and fault.isdigit():
            return self.send_error(int(fault))
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = (int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)) if asked else (
            0, len(data) - 1)
        body = data[first : last + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"1"')
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        if head:
            return None
        self.server.asked.append((self.path, first, len(body)))
        if fault == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "stall":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            time.sleep(6)
            self.close_connection = True
        else:
            self.wfile.write(body)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    found = Server()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    for name, value in {"AWS_S3_ENDPOINT": found.url.removeprefix("http://"), "AWS_HTTPS": "NO",
                        "AWS_VIRTUAL_HOSTING": "FALSE", "AWS_NO_SIGN_REQUEST": "YES", "no_proxy": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(remote._SETTINGS, "GDAL_HTTP_LOW_SPEED_TIME", 2)
    monkeypatch.setitem(remote._SETTINGS, "GDAL_HTTP_RETRY_DELAY", 0.05)
    yield found
    found.shutdown()


PIXELS = np.random.default_rng(0).integers(0, 60000, (2, 1500, 700), "uint16")
COUNT = iter(range(10**6))


@pytest.fixture
def scene(server, make_raster):
    """A path on the server that no other test has asked for: GDAL keeps what it has read."""
    path = make_raster(PIXELS, name="scene.tif", tiled=True, blockxsize=256, blockysize=256, compress="deflate",
                       nodata=0)
    name = f"/bucket/{next(COUNT)}-scene.tif"
    server.files[name] = open(path, "rb").read()
    return name, path


def read(path):
    with rasterio.open(path) as data:
        return data.read()


@pytest.mark.parametrize("how", ["{url}{name}", "/vsicurl/{url}{name}", "/vsis3{name}", "s3:/{name}"])
def test_a_raster_on_a_server_is_translated_as_one_on_disk(server, scene, tmp_path, how):
    name, local = scene
    source = how.format(url=server.url, name=name)
    found = translate_raster(source, tmp_path / "o.tif", identity_package(2), compute=CPU)
    expected = translate_raster(local, tmp_path / "e.tif", identity_package(2), compute=CPU)
    assert found.read_bytes() == expected.read_bytes()


def test_every_byte_is_asked_for_about_once_and_the_header_in_one_request(server, scene):
    name, _ = scene
    source = RasterSource.open(server.url + name)
    assert len(server.asked) <= 2
    for _ in source.rows():
        pass
    size = len(server.files[name])
    assert sum(count for *_, count in server.asked) <= 1.5 * size
    assert len(server.asked) <= 40


@pytest.mark.parametrize("faults", [["503"] * 2, ["500", "502", "429"], ["cut"], ["cut", "503", "cut"], ["stall"]],
                         ids=" ".join)
@pytest.mark.parametrize("after", [0, 1])
def test_a_server_that_misbehaves_for_a_while_changes_nothing(server, scene, tmp_path, faults, after):
    name, _ = scene
    source = RasterSource.open(server.url + name)
    server.faults[:] = [*[""] * after, *faults]
    assert np.array_equal(np.concatenate([each.pixels for each in source.rows()], 1), PIXELS)
    assert not server.faults


@pytest.mark.parametrize("attempt", range(4))
def test_reprojection_bears_a_server_that_misbehaves(server, scene, tmp_path, attempt):
    """Several threads read at a time, and which of them meets a fault is chance."""
    name, local = scene
    grid = RasterSource.open(local).grid
    target = Grid(grid.crs, grid.transform @ rasterio.Affine.rotation(3), 1500, 700)
    expected = reproject_raster(local, tmp_path / "e.tif", target, device="cpu")
    server.faults[:] = ["cut", "", "503", "cut", "", "cut"]
    found = reproject_raster(server.url + name, tmp_path / "o.tif", target, device="cpu")
    assert np.array_equal(read(found), read(expected))


def test_a_server_that_never_recovers_is_a_sentence_and_what_is_done_is_kept(server, scene, tmp_path, monkeypatch):
    from geoi2i.core.output import strips

    monkeypatch.setattr(strips, "_STRIP_BYTES", 1)
    name, _ = scene
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "o.tif"
    data = server.files[name]
    server.files[name] = data[: len(data) // 2] + b"\xff" * 5000 + data[len(data) // 2 + 5000 :]
    with pytest.raises(RasterError, match=r"cannot be read"):
        translate_raster(server.url + name, output, identity_package(2), compute=CPU)
    assert not output.exists()


def test_what_is_not_there_is_a_sentence(server, tmp_path):
    for source in (server.url + "/nothing.tif", "s3://bucket/nothing.tif", "http://127.0.0.1:9/nothing.tif"):
        with pytest.raises(RasterError, match=r"nothing.tif"):
            translate_raster(source, tmp_path / "o.tif", identity_package(1), compute=CPU)


def test_a_changed_file_on_a_server_is_noticed(server, scene, make_raster):
    name, local = scene
    before = list(RasterSource.open(server.url + name).stamps().values())
    assert list(RasterSource.open(server.url + name).stamps().values()) == before
    changed = PIXELS.copy()
    changed[:, -1, -1] += 1
    make_raster(changed, name="scene.tif", tiled=True, blockxsize=256, blockysize=256, compress="deflate", nodata=0)
    server.files["/bucket/changed.tif"] = open(local, "rb").read()
    assert list(RasterSource.open(server.url + "/bucket/changed.tif").stamps().values()) != before


def test_a_local_raster_that_is_open_does_not_bar_the_way_to_servers(server, scene):
    """Local rasters are opened with servers shut out, which GDAL knows only for the whole process."""
    name, local = scene
    with RasterSource.open(local).handles.borrow():
        source = RasterSource.open(server.url + name)
        assert np.array_equal(np.concatenate([each.pixels for each in source.rows()], 1), PIXELS)
