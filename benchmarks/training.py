"""Images a second in training, against a plain loop of the same networks and losses in the same run.

    python benchmarks/training.py [--device auto] [--steps 12] [--write docs/results/training.md]

Official configuration of CUT and UNSB: windows of 256 pixels, 64 channels, nine blocks, one image a batch. The plain
loop is written as the public code is: each image through the generator and each term of the contrast by itself, keys
with a graph, the default memory layout, fp32. Ours runs in fp32 and with budget.precision = "bf16". All start from the
same weights and see the same images; turns alternate.
"""

import argparse
import datetime
import os
import platform
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from geoi2i.core.inference.steps import schrodinger_bridge_times
from geoi2i.core.networks.resnet import ResnetGenerator, ResnetSizes
from geoi2i.training.loop import train_step
from geoi2i.training.methods import METHODS
from geoi2i.training.processes import connect
from geoi2i.training.recipe import Recipe
from geoi2i.training.state import Run

TARGET = {"cpu": 1.3, "cuda": 2.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--methods", nargs="+", default=["cut", "unsb"])
    parser.add_argument("--steps", type=int, default=12, help="timed steps of each, after two that are not")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    fabric, _ = connect(arguments.device)
    lines = []
    for name in arguments.methods:
        lines.append(compared(name, fabric, arguments))
        print(lines[-1], flush=True)
    text = page(lines, fabric, arguments)
    if arguments.write:
        arguments.write.write_text(text)


def compared(name: str, fabric, arguments) -> str:
    """One row of the table."""
    kinds = {"plain": Plain(name, fabric, arguments), "fp32": Ours(name, fabric, arguments, "fp32"),
             "bf16": Ours(name, fabric, arguments, "bf16")}
    seconds, curves = {kind: [] for kind in kinds}, {kind: [] for kind in kinds}
    for step in range(arguments.steps + 2):
        images = torch.Generator().manual_seed(step)
        batch = {key: fabric.to_device(torch.rand(1, 3, arguments.side, arguments.side, generator=images) * 2 - 1)
                 for key in ("source", "source2", "target")}
        for kind, program in kinds.items():
            torch.manual_seed(step)
            synchronise(fabric)
            started = time.perf_counter()
            curves[kind].append(float(program.step(batch)))
            synchronise(fabric)
            if step >= 2:
                seconds[kind].append(time.perf_counter() - started)
    middle = {kind: sorted(values)[len(values) // 2] for kind, values in seconds.items()}
    gain = {kind: middle["plain"] / seconds for kind, seconds in middle.items()}
    means = {kind: sum(values) / len(values) for kind, values in curves.items()}
    wanted = TARGET[fabric.device.type]
    kept = "yes" if max(gain.values()) >= wanted else "**no**"
    return (f"| {name} | {1 / middle['plain']:.3f} | {1 / middle['fp32']:.3f} ({gain['fp32']:.2f}) | "
            f"{1 / middle['bf16']:.3f} ({gain['bf16']:.2f}) | {kept} (at least {wanted}) | "
            f"{' | '.join(f'{mean:.3f}' for mean in means.values())} |")


class Ours:
    """A step of the product's own loop."""

    def __init__(self, name, fabric, arguments, precision):
        from geoi2i.training import loop

        recipe = Recipe.model_validate({
            "name": name, "method": name, "bands": {side: [{"name": c, "minimum": -1, "maximum": 1} for c in "rgb"]
                                                    for side in ("source", "target")},
            "network": {"sizes": {"width": arguments.width, "style": 256 if name == "unsb" else 0}},
            "budget": {"precision": precision}, "settings": METHODS[name].settings_type().model_dump()})
        self.run: Run = loop.start_run(recipe, fabric)
        self.fabric = fabric

    def step(self, batch):
        batch = {key: value.contiguous(memory_format=torch.channels_last) for key, value in batch.items()}
        parts = train_step(self.run, batch, self.fabric)
        self.run.step += 1
        return parts["contrast"]


class Plain:
    """The same networks and losses in a loop as anybody would write it."""

    def __init__(self, name, fabric, arguments):
        torch.manual_seed(0)
        sizes = ResnetSizes(bands_in=3, bands_out=3, width=arguments.width, style=256 if name == "unsb" else 0)
        method = METHODS[name](METHODS[name].settings_type())
        networks = method.networks(ResnetGenerator(sizes), 3, 3)
        self.networks = {key: fabric.to_device(network.train()) for key, network in networks.items()}
        self.optimisers = {
            player: torch.optim.Adam([p for k in names for p in self.networks[k].parameters()], 2e-4, (0.5, 0.999))
            for player, names in method.players.items()}
        self.step = self.bridge if name == "unsb" else self.single
        self.times = schrodinger_bridge_times(5)

    def single(self, batch):
        g, d = self.networks["generator"], self.networks["critic"]
        zero = torch.zeros(1, device=batch["source"].device)
        fake, same = g(batch["source"], zero, None), g(batch["target"], zero, None)
        self.learn("critic", ((d(batch["target"]) - 1) ** 2).mean() / 2 + (d(fake.detach()) ** 2).mean() / 2)
        d.requires_grad_(False)
        nce = (self.nce(fake, batch["source"], None) + self.nce(same, batch["target"], None)) / 2
        self.learn("generator", ((d(fake) - 1) ** 2).mean() + nce)
        d.requires_grad_(True)
        return nce.detach()

    def bridge(self, batch):
        g, d, e = (self.networks[k] for k in ("generator", "critic", "energy"))
        device, tau = batch["source"].device, 0.01
        index = int(torch.randint(5, ()))
        time_ = torch.full((1,), float(index), device=device)
        states = [self.rollout(batch[k], index) for k in ("source", "target", "source2")]
        fake, same, other = (g(x, time_, torch.randn(1, 256, device=device)) for x in states)
        real, made = d(batch["target"], time_), d(fake.detach(), time_)
        self.learn("critic", ((real - 1) ** 2).mean() / 2 + (made**2).mean() / 2)
        pair, pair2 = torch.cat([states[0], fake], 1), torch.cat([states[2], other], 1)

        def energies(one, two):
            return e(torch.cat([one, one], 1), time_), e(torch.cat([one, two], 1), time_)

        alike, unlike = energies(pair.detach(), pair2.detach())
        level = unlike.flatten().logsumexp(0)
        self.learn("energy", -alike.mean() + level + level**2)
        d.requires_grad_(False), e.requires_grad_(False)
        alike, unlike = energies(pair, pair2)
        entropy = alike.mean() - unlike.flatten().logsumexp(0)
        sb = tau * ((states[0] - fake) ** 2).mean() - (5 - index) / 5 * tau * entropy
        z = torch.randn(1, 256, device=device)
        nce = (self.nce(fake, batch["source"], z) + self.nce(same, batch["target"], z)) / 2
        self.learn("generator", ((d(fake, time_) - 1) ** 2).mean() + sb + nce)
        d.requires_grad_(True), e.requires_grad_(True)
        return nce.detach()

    @torch.no_grad()
    def rollout(self, x, index):
        g = self.networks["generator"].eval()
        for i in range(index):
            s = (self.times[i + 1] - self.times[i]) / (1 - self.times[i])
            noise = (s * (1 - s) * (1 - self.times[i]) * 0.01) ** 0.5
            made = g(x, torch.full((1,), float(i), device=x.device), torch.randn(1, 256, device=x.device))
            x = (1 - s) * x + s * made + noise * torch.randn_like(x)
        g.train()
        return x

    def nce(self, made, source, z):
        g, f = self.networks["generator"], self.networks["projector"]
        zero = torch.zeros(1, device=made.device)
        queries, keys = g.feature_maps(made, zero, z), g.feature_maps(source, zero, z)
        places = [torch.randperm(m.shape[2] * m.shape[3], device=m.device)[:256] for m in queries]
        total = 0
        for q, k in zip(f(queries, places), f(keys, places)):
            alike = torch.bmm(q, k.detach().transpose(1, 2)) / 0.07
            total = total + F.cross_entropy(alike[0], torch.arange(alike.shape[1], device=alike.device))
        return total / len(queries)

    def learn(self, player, loss):
        self.optimisers[player].zero_grad()
        loss.backward()
        self.optimisers[player].step()


def synchronise(fabric) -> None:
    if fabric.device.type == "cuda":
        torch.cuda.synchronize()


def page(lines: list[str], fabric, arguments) -> str:
    gpu = fabric.device.type == "cuda"
    device = torch.cuda.get_device_name() if gpu else f"{platform.machine()}, {os.cpu_count()} cores"
    return "\n".join([
        "# Speed of training", "",
        f"`python benchmarks/training.py --steps {arguments.steps}`, {datetime.date.today()}, {device}, torch "
        f"{torch.__version__}. {__doc__.split(chr(10) * 2)[2].strip()} Medians of {arguments.steps} steps; the "
        "contrast is the mean over all of them, which differ by the noise that is drawn.", "",
        "| method | plain, images/s | fp32 (times) | bf16 (times) | target met | contrast, plain | fp32 | bf16 |",
        "|---|---|---|---|---|---|---|---|", *lines, ""])


if __name__ == "__main__":
    main()
