"""What is chosen for a device: precision, batch, compiled networks; and copies to it and back. No GPU is needed."""

from contextlib import contextmanager

import numpy as np
import pytest
import rasterio
import torch
from geoi2i.core import staging
from geoi2i.core.device import choose_precision, compiled, whole_fp32
from geoi2i.core.errors import DeviceError, ModelError
from geoi2i.core.models.package import identity_package
from geoi2i.core.pipeline import estimates, plan, planning
from geoi2i.core.pipeline.estimates import batch_within, fingerprint
from geoi2i.core.pipeline.outputs import provenance
from geoi2i.core.pipeline.plan import Compute, Options
from geoi2i.core.pipeline.planning import plan_translation
from geoi2i.core.run import translate_raster
from hypothesis import given
from hypothesis import strategies as st

GPU = torch.device("cuda")


@pytest.mark.parametrize("capability, wanted", [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_is_bf16_where_the_hardware_has_it(monkeypatch, capability, wanted):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", GPU) == wanted
    assert choose_precision("auto", torch.device("cpu")) == "fp32"
    assert choose_precision("fp16", GPU) == "fp16"


def test_a_plan_says_which_precision_and_batch_it_is(make_raster, make_package, monkeypatch):
    """On a GPU of 8 GB that has bf16; also in the fingerprint and the tags, so that a resumed run has the same."""
    source, package = make_raster("uint8"), make_package()
    here = plan_translation(source, package, Options(), Compute(device="cpu", force=True))
    assert (here.options.precision, here.compute.batch) == ("fp32", 1)
    assert "--precision" not in provenance(here)["GEOI2I_COMMAND"]
    for module in (planning, plan):
        monkeypatch.setattr(module, "choose_device", lambda name: GPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8 << 30, 8 << 30))
    there = plan_translation(source, package, Options(tile=16), Compute(force=True))
    down, across = there.windows
    assert there.options.precision == "bf16" and 1 < there.compute.batch <= down * across
    assert fingerprint(there)["precision"] == "bf16" and fingerprint(there)["batch"] == there.compute.batch
    assert "--precision bf16" in provenance(there)["GEOI2I_COMMAND"]
    assert plan_translation(source, package, Options(precision="fp32"), Compute(batch=3, force=True)).compute.batch == 3
    alone = plan_translation(source, identity_package(3), Options())
    assert (alone.options.precision, alone.compute.batch) == ("fp32", 1)


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 36), st.integers(256, 1 << 24), st.integers(1, 10**6))
def test_a_batch_is_a_power_of_two_that_fits(free, window_bytes, window_px, windows):
    batch = batch_within(free, window_bytes, window_px, windows)
    assert batch >= 1 and batch & (batch - 1) == 0
    assert batch == 1 or (batch * window_bytes <= free / 4 and batch <= windows and
                          batch * window_px <= estimates._FULL_PX)
    # A little more or less memory leaves it as it is, unless it is a matter of memory alone.
    assert batch_within(2 * free, window_bytes, window_px, windows) >= batch


def test_whole_fp32_ends_where_it_began():
    before = torch.backends.cudnn.allow_tf32
    with pytest.raises(ZeroDivisionError), whole_fp32():
        assert not torch.backends.cudnn.allow_tf32
        raise ZeroDivisionError
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_compiled_network_makes_the_raster_to_rounding(make_raster, make_package, tmp_path, monkeypatch):
    """Through the tracer only: the C++ of the CPU takes half a minute."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: compile_(network, backend="aot_eager"))
    source, package = make_raster("float32"), make_package(steps=2)
    plain, fast = (translate_raster(source, tmp_path / f"{compiled}.tif", package, Options(tile=32),
                                    compute=Compute(device="cpu", compile=compiled)) for compiled in (False, True))
    with rasterio.open(plain) as one, rasterio.open(fast) as other:
        assert np.allclose(one.read(), other.read(), atol=1e-4, equal_nan=True)
    plans = [plan_translation(source, package, Options(), Compute(device="cpu", compile=c)) for c in (False, True)]
    assert fingerprint(plans[0]) != fingerprint(plans[1])


def test_a_network_that_cannot_be_compiled_ends_in_a_sentence(monkeypatch):
    from torch._dynamo.exc import BackendCompilerFailed

    def broken(network):
        def call(*arguments):
            raise BackendCompilerFailed(lambda: None, RuntimeError("no compiler"), None)
        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(DeviceError, match="leave --compile out"):
        compiled(torch.nn.Identity())(torch.zeros(1))


def test_a_network_with_statistics_of_the_raster_is_not_compiled(make_raster, make_package, monkeypatch):
    package = make_package()
    monkeypatch.setattr(type(package), "normalises_over_space", property(lambda self: True))
    with pytest.raises(ModelError, match="leave --compile out"):
        plan_translation(make_raster("float32"), package, Options(), Compute(device="cpu", compile=True))


@given(st.lists(st.integers()), st.integers(0, 4))
def test_what_is_asked_late_comes_in_order_and_one_is_always_under_way(items, behind):
    begun, asked = [], []

    def begin():
        for item in items:
            begun.append(item)
            yield lambda item=item: asked.append(len(begun)) or item

    assert list(staging.asked_late(begin(), behind)) == items
    assert all(seen == min(k + 1 + behind, len(items)) for k, seen in enumerate(asked))


def test_on_a_cpu_nothing_is_copied():
    array = np.arange(6, dtype="float32").reshape(1, 2, 3)
    tensor = staging.upload(array, torch.device("cpu"))
    tensor += 1
    assert array[0, 0, 0] == 1 and staging.download(tensor)() is not None
    assert np.shares_memory(staging.download(tensor)(), array)


class Fake:
    """Streams, events and tensors of a GPU that only say what is asked of them, and in which stream."""

    def __init__(self):
        self.log, self.current, self.device, self.type = [], "computing", self, "cuda"

    def stream_of(self, device, direction=""):
        return Stream(self, f"copy {direction}" if direction else self.current)

    @contextmanager
    def entered(self, stream):
        before, self.current = self.current, stream.name
        yield
        self.current = before

    def pin_memory(self):
        self.log.append("pinned")
        return self

    def to(self, device, non_blocking):
        self.log.append(f"copied in {self.current}{'' if non_blocking else ', waiting'}")
        return self

    def record_stream(self, stream):
        self.log.append(f"kept for {stream.name}")

    def numpy(self):
        self.log.append("read")
        return self


class Stream:
    def __init__(self, fake, name):
        self.fake, self.name = fake, name

    def wait_stream(self, other):
        self.fake.log.append(f"{self.name} waits for {other.name}")


class Event:
    def __init__(self, fake):
        self.fake = fake

    def record(self, stream):
        self.fake.log.append(f"marked in {stream.name}")

    def synchronize(self):
        self.fake.log.append("waited")


@pytest.fixture
def fake(monkeypatch):
    fake = Fake()
    monkeypatch.setattr(torch, "from_numpy", lambda array: fake)
    monkeypatch.setattr(torch.cuda, "current_stream", fake.stream_of)
    monkeypatch.setattr(torch.cuda, "stream", fake.entered)
    monkeypatch.setattr(torch.cuda, "Event", lambda: Event(fake))
    monkeypatch.setattr(staging, "_copy_stream", fake.stream_of)
    return fake


def test_an_upload_is_pinned_copied_aside_and_waited_for_by_what_computes(fake):
    staging.upload(np.zeros(1), fake)
    assert fake.log == ["pinned", "copied in copy up", "computing waits for copy up", "kept for computing"]


def test_a_download_waits_for_what_was_computed_and_is_read_when_it_is_there(fake):
    array = staging.download(fake)
    begun = ["copy down waits for computing", "copied in copy down", "marked in copy down", "kept for copy down"]
    assert fake.log == begun
    array()
    assert fake.log == [*begun, "waited", "read"]
