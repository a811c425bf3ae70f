"""Two processes, started by torchrun over gloo, train one model, write one set of files and end together."""

import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from geoi2i.core.errors import DeviceError, RecipeError
from geoi2i.core.models.package import ModelPackage
from geoi2i.training.augmentation import augmentation
from geoi2i.training.data import open_domains, seed_of
from geoi2i.training.log import iterate_log
from geoi2i.training.loop import _rate, train
from geoi2i.training.processes import Processes, connect
from geoi2i.training.recipe import describe_bands, load_recipe
from geoi2i.training.start import begin, solve_start
from geoi2i.training.state import start_run
from geoi2i.training.validation import sides_of

pytestmark = pytest.mark.slow

RECIPE = """
name = "small"
method = "sp_i2i"
network.sizes = {{width = 4, blocks = 1, style = 4, embedding = 8}}
budget = {{steps = 6, log_every = 2, checkpoint_every = 3, preview_every = 3}}
settings = {{steps = 3, levels = 2, critic_width = 4, critic_levels = 1, gate_width = 4}}
[data]
source.paths = ["{folder}/a.tif"]
target.paths = ["{folder}/b.tif"]
window_px = 16
batch = 2
[data.augment]
turns = true
blur = 1.0
gain = 0.1
offset = 0.1
noise = 0.05
"""

DRIVER = '''
import os, sys
from pathlib import Path
import torch
from geoi2i.training import loop, processes
from geoi2i.training.recipe import describe_bands, load_recipe

folder, rank, step = Path(sys.argv[1]), int(os.environ["RANK"]), loop.train_step
recipe = describe_bands(load_recipe(folder / "recipe.toml"))

def breaks(run, batch, fabric):
    parts = step(run, batch, fabric)
    return {k: v * float("nan") for k, v in parts.items()} if (run.step, rank) == (2, 1) else parts

def falls(run, batch, fabric):
    return os._exit(9) if (run.step, rank) == (4, 1) else step(run, batch, fabric)

processes._FAREWELL_S = 0
_, both = processes.connect("cpu")
everywhere, here, nowhere = (torch.zeros(2, requires_grad=True) for _ in range(3))
everywhere.grad = torch.tensor([1.0, 2.0]) * rank
if rank == 1:
    here.grad = torch.tensor([2.0, 4.0])
both.average([everywhere, here, nowhere])
torch.save([everywhere.grad, here.grad, nowhere.grad], folder / f"gradients{rank}.pt")

try:
    with both.together():
        if rank == 1:
            raise ValueError("only here")
except BaseException as error:
    (folder / f"together{rank}.txt").write_text(f"{type(error).__name__} {error}")

run = loop.train(recipe, folder / "whole", device="cpu")
networks = {**run.networks, "ema": run.ema}
torch.save({name: network.state_dict() for name, network in networks.items()}, folder / f"rank{rank}.pt")

loop.train_step = breaks
try:
    loop.train(recipe, folder / "broken", device="cpu")
except BaseException as error:
    (folder / f"broken{rank}.txt").write_text(f"{type(error).__name__} {error}")

loop.train_step = falls
loop.train(recipe, folder / "fallen", device="cpu")
'''
"""Tries the parts as one of two processes; then trains to the end, to a loss that breaks, to the death of one."""


def torchrun(*arguments, processes=2):
    """Runs a script or `-m module` in that many processes; nothing may hang, and nobody outlives the call."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port",
               str(port), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        said, errors = process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(command, process.returncode, said, errors)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two small rasters, a recipe and the driver script."""
    folder, rng = tmp_path_factory.mktemp("processes"), np.random.default_rng(0)
    source = rng.integers(60, 200, (3, 128, 96), np.uint8)
    for name, pixels in (("a.tif", source), ("b.tif", source[:, ::-1, 16:] // 2 + 20)):
        with rasterio.open(folder / name, "w", driver="GTiff", count=3, height=128, width=pixels.shape[2],
                           dtype="uint8", crs="EPSG:32633", transform=Affine(30, 0, 5e5, 0, -30, 4e6)) as out:
            out.write(pixels)
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder.as_posix()))
    (folder / "driver.py").write_text(DRIVER)
    return folder


@pytest.fixture(scope="module")
def driven(folder):
    """What the driver script said."""
    return torchrun(folder / "driver.py", folder)


def recipe_of(folder):
    return describe_bands(load_recipe(folder / "recipe.toml"))


def test_all_processes_end_in_the_same_weights_bit_for_bit(folder, driven):
    first, second = (torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    saved = torch.load(folder / "whole" / "checkpoint.pt", weights_only=True)
    assert same(first, second) and same(first, {**saved["networks"], "ema": saved["ema"]})


def test_two_processes_are_one_whose_gradient_is_the_mean_of_two_steps(folder, driven):
    """In one process: for each step the losses of two steps, in turn by player, back-propagated and halved."""
    recipe = recipe_of(folder)
    run, domains, augment = start_run(recipe, connect("cpu")[0]), open_domains(recipe), augmentation(recipe, False)
    begin(run, solve_start(recipe, run.method, run.networks, sides_of(domains, recipe), False))
    domains = domains.seen_through(run.front)
    for step in range(recipe.budget.steps):
        turns = []
        for virtual in (2 * step, 2 * step + 1):
            torch.manual_seed(seed_of(recipe, virtual))
            losses = run.method.losses(run.networks, augment(domains.batch(recipe, virtual)))
            turns.append([losses, torch.get_rng_state()])
        for player, optimiser in run.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = group["base_lr"] * _rate(recipe, step)
            optimiser.zero_grad()
            for turn in turns:
                torch.set_rng_state(turn[1])
                name, loss, _ = next(turn[0])
                turn[1] = torch.get_rng_state()
                assert name == player
                (loss / 2).backward()
            optimiser.step()
    trained = torch.load(folder / "rank0.pt", weights_only=True)
    for name, network in run.networks.items():
        for key, value in network.state_dict().items():
            torch.testing.assert_close(value, trained[name][key], rtol=0, atol=1e-6, msg=f"{name} {key}")


def test_a_gradient_is_missing_only_where_all_processes_miss_it(folder, driven):
    for rank in range(2):
        everywhere, here, nowhere = torch.load(folder / f"gradients{rank}.pt", weights_only=True)
        assert everywhere.tolist() == [0.5, 1.0] and here.tolist() == [1.0, 2.0] and nowhere is None


def test_an_error_in_one_process_ends_all_and_that_one_says_so(folder, driven):
    first, second = ((folder / f"together{rank}.txt").read_text() for rank in range(2))
    assert first == "SystemExit 2" and second == "ValueError only here"


def test_a_process_that_dies_ends_the_run(folder, driven):
    assert driven.returncode != 0 and "exitcode  : 9" in driven.stderr
    assert torch.load(folder / "fallen" / "checkpoint.pt", weights_only=True)["step"] == 3


def test_a_loss_that_breaks_in_one_process_ends_all_and_one_says_so(folder, driven):
    first, second = ((folder / f"broken{rank}.txt").read_text() for rank in range(2))
    assert first.startswith("RecipeError") and "not finite at step 4" in first and second == "SystemExit 2"


def test_a_resumed_run_is_the_uninterrupted_one_and_writes_one_set_of_files(folder, driven):
    """By the command line, which also exports; its standard output is what a script reads."""
    output = folder / "fallen"
    result = torchrun("-m", "geoi2i", "train", folder / "recipe.toml", "-o", output, "--resume", "--device", "cpu")
    assert result.returncode == 0, result.stderr
    ends = [torch.load(path / "checkpoint.pt", weights_only=True) for path in (folder / "whole", output)]
    for key in ("networks", "ema", "best", "best_state", "optimisers", "step", "processes"):
        assert same(ends[0][key], ends[1][key]), key
    assert result.stdout.splitlines() == [f"Wrote the model {output / 'small'}"]
    assert result.stderr.count("step 6:") == 1
    assert sorted(p.name for p in output.iterdir()) == ["checkpoint.pt", "log.jsonl", "previews", "small",
                                                        "tensorboard"]
    assert [line["step"] for line in iterate_log(output / "log.jsonl")] == [0, 2, 3, 4, 6]
    assert sorted(p.name for p in (output / "previews").iterdir()) == [
        f"step-000000{step}.png" for step in (0, 3, 6)]
    assert ModelPackage.load(output / "small").verify() <= 1e-4


def test_a_run_is_not_resumed_by_another_number_of_processes(folder, driven):
    with pytest.raises(RecipeError, match="2 processes, and now there is 1: resume with as many"):
        train(recipe_of(folder), folder / "whole", device="cpu", resume=True)


def test_processes_that_end_right_after_a_message_do_not_abort(tmp_path):
    """gloo's threads still let go of the last message then; four of five such endings aborted once."""
    script = tmp_path / "short.py"
    script.write_text("""
from geoi2i.training.processes import connect
_, both = connect("cpu")
for number in range(5):
    assert both.gather({"number": number, "rank": both.rank}) == [{"number": number, "rank": r} for r in range(3)]
""")
    result = torchrun(script, processes=3)
    assert result.returncode == 0, result.stderr
    assert "terminate" not in result.stderr


def test_a_bad_recipe_ends_all_with_one_sentence(folder):
    result = torchrun("-m", "geoi2i", "train", folder / "recipe.toml", "-o", folder / "bad", "--set",
                      "data.window_px=4000")
    assert result.returncode != 0 and not result.stdout
    assert result.stderr.count("Error: No window of 4000 pixels") == 1, result.stderr
    assert "exitcode  : 2" in result.stderr and not (folder / "bad").exists()


def test_processes_that_cannot_be_shared_out_are_refused_in_a_sentence(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2",
                        "WORLD_SIZE": "3", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RecipeError, match="3 processes on 2 nodes"):
        connect("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match="--nproc-per-node 1"):
        connect("cuda")


def test_no_two_processes_ever_take_the_same_step():
    taken = [Processes(rank, 3).turn(step) for step in range(5) for rank in range(3)]
    assert taken == list(range(15)) and [Processes().turn(step) for step in range(5)] == list(range(5))


def same(one, other) -> bool:
    """Whether two nested states hold the same numbers, bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
