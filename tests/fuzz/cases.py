"""Cases: an input, what was done to it, and the command that a user gives; all of it follows from one name."""

import contextlib
import hashlib
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from layouts import Step, from_json, layout_of, told
from mutate import mutated
from nasty import NUMBERS, TEXTS
from seeds import Seed
from tiff import tiff_fields

BINARY = (".tif", ".msk", ".ovr", ".safetensors", ".h5", ".nc", ".gpkg", ".gpkg-wal")
WEIGHTS, MANIFEST = "model/weights.safetensors", "model/manifest.json"


@dataclass(frozen=True)
class Case:
    """What is run; `@IN@`, `@OUT@` and `@URL@` stand for places that are known when it runs."""

    kind: str
    seed: str
    victim: str
    content: bytes
    arguments: tuple[str, ...]
    rehash: bool = False
    """Whether the manifest gets the hash of the mutated weights, as whoever made them would give it."""
    layout: tuple[Step, ...] = ()
    """What stands in the output folder before."""
    mutations: tuple[str, ...] = field(default=(), compare=False)
    count: int = 0
    """Mutations before any was left out."""


def make_case(kind: str, key: str, seeds: dict[str, dict[str, Seed]], dropped: frozenset[int] = frozenset()) -> Case:
    """The case of a name; the same on every machine that makes the same seeds."""
    random = Random(f"{kind} {key}")
    if kind == "options":
        return Case(kind, "deflate", "a.tif", seeds["tiff"]["deflate"].files["a.tif"], _options(random))
    name = random.choice(sorted(seeds[kind]))
    seed = seeds[kind][name]
    if kind == "layout":
        arguments = _writing_arguments(random)
        steps = layout_of(random, arguments)
        kept = tuple(step for number, step in enumerate(steps) if number not in dropped)
        return Case(kind, name, seed.victim, seed.files[seed.victim], arguments, layout=kept,
                    mutations=tuple(map(told, kept)), count=len(steps))
    suffix = Path(seed.victim).suffix
    count = random.choice((1, 1, 1, 2, 3, 5))
    content, said = mutated(Random(random.getrandbits(64)), suffix, seed.files[seed.victim], count, dropped)
    return Case(kind, name, seed.victim, content, _arguments(random, kind, seed), rehash=random.random() < 0.8,
                mutations=tuple(said), count=count)


def lay_out(case: Case, seeds: dict[str, dict[str, Seed]], folder: Path, url: str) -> None:
    """Writes the case's files into a folder."""
    kind = "tiff" if case.kind == "options" else case.kind
    files = dict(seeds[kind][case.seed].files)
    files[case.victim] = case.content
    if case.kind == "model" and case.victim == WEIGHTS and case.rehash:
        told = b'"weights_sha256": "%s"' % hashlib.sha256(case.content).hexdigest().encode()
        files[MANIFEST] = re.sub(rb'"weights_sha256": *"[0-9a-f]*"', told, files[MANIFEST])
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix not in BINARY:
            content = filled(content, folder, url)
        path.write_bytes(content)


def content_of(name: str, seeds: dict[str, dict[str, Seed]]) -> bytes:
    """The file of a seed that is mutated, by kind and name."""
    kind, name = name.split("/")
    return seeds[kind][name].files[seeds[kind][name].victim]


def filled(content: bytes, folder: Path, url: str) -> bytes:
    return content.replace(b"@IN@", str(folder).encode()).replace(b"@URL@", url.encode())


def claimed_work(case: Case) -> int:
    """Samples that the raster says it has, times what the command does with each; much of it may take its time."""
    suffix, samples = Path(case.victim).suffix, 0
    with contextlib.suppress(Exception):  # of a raster that cannot be parsed nothing is read
        if suffix == ".vrt":
            sides = [int(side) for side in re.findall(rb'raster[XY]Size="(\d+)"', case.content)[:2]]
            samples = math.prod(sides) * case.content.count(b"<VRTRasterBand")
        elif suffix in (".tif", ".msk", ".ovr"):
            order, _, fields, _ = tiff_fields(case.content)
            sides = {tag: int.from_bytes(case.content[value : value + (2 if kind == 3 else 4)],
                                         "little" if order == "<" else "big")
                     for _, tag, kind, _, value in reversed(fields) if tag in (256, 257, 277)}
            samples = math.prod(sides.values())
    return samples * (500 if "evaluate" in case.arguments else 100 if "identity" not in case.arguments else 1)


def _arguments(random: Random, kind: str, seed: Seed) -> tuple[str, ...]:
    if kind == "recipe":
        return ("train", "@IN@/r.toml", "--dry-run", "-o", "@OUT@/run")
    if kind == "events":
        return ("events", "@IN@/e.jsonl")
    if kind == "list":
        verb = random.choice((["run", "-m", "identity"], ["reproject", "--crs", "EPSG:4326"]))
        return (*verb, "-i", "-", "-o", "@OUT@/")
    if kind == "model":
        return random.choice((
            ("models", "show", "@IN@/model"), ("models", "show", "@IN@/model", "--json"),
            ("models", "verify", "@IN@/model"), ("plugin", "@IN@/model"),
            *[("run", "-i", "@IN@/a.tif", "-m", "@IN@/model", "-o", "@OUT@/o.tif", *more) for more in (
                (), (), ("--events", "json"), ("--dry-run",), ("--match-model-grid",),
                ("--match-model-grid", "--restore-grid"), ("--back-project",), ("--steps", "1"), ("--to-db",),
                ("--confidence", "@OUT@/c.tif"),
                ("--samples", "2", "--uncertainty", "@OUT@/u.tif"))]))
    own = f"@IN@/{'a.tif' if kind == 'sidecar' else seed.victim.removesuffix('-wal')}"
    inside = {"hdf5": f'HDF5:"{own}"://d', "gpkg": f"GPKG:{own}:t"}.get(kind)
    return _raster_arguments(random, inside if inside and random.random() < 0.3 else own)


def _writing_arguments(random: Random) -> tuple[str, ...]:
    """A command with some of the options that write, or that say how."""
    def some(*options: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(word for option in options if random.random() < 0.4 for word in option)

    overwrite, resume, log = ("--overwrite",), ("--no-resume",), ("--log", "@OUT@/log.jsonl")
    one, out = ("-i", "@IN@/a.tif"), ("-o", "@OUT@/o.tif")
    many = ("-i", "@IN@/a.tif", "-i", "@IN@/b.tif", "-o", "@OUT@/")
    identity, warp = ("run", "-m", "identity"), ("reproject", "--crs", "EPSG:4326")
    model = ("run", "-m", "@IN@/model", "--samples", "2")
    score = ("evaluate", "-p", "@IN@/a.tif", "-r", "@IN@/a.tif", "--metric", "mae")
    return random.choice((
        *[(*identity, *one, *out, *some(overwrite, resume, log, ("--preview", "@OUT@/p.png")))] * 3,
        *[(*warp, *one, *out, *some(overwrite, resume, log))] * 2,
        *[(*verb, *many, *some(overwrite, resume, log)) for verb in (identity, warp)],
        (*model, *one, *out, "--uncertainty", "@OUT@/u.tif", *some(overwrite, resume)),
        (*model, *one, *out, *some(("--confidence", "@OUT@/c.tif"))),
        (*score, "--json", "@OUT@/e.json", *some(overwrite, ("--csv", "@OUT@/e.csv"), ("--report", "@OUT@/r"))),
        (*score, "--report", "@OUT@/r", *some(overwrite, ("--csv", "@OUT@/e.csv")))))


def _raster_arguments(random: Random, raster: str) -> tuple[str, ...]:
    out, identity = ("-o", "@OUT@/o.tif"), ("run", "-i", raster, "-m", "identity")
    return random.choice((
        (*identity, *out), (*identity, *out), (*identity, *out, "--events", "json"), (*identity, *out, "--tile", "16"),
        (*identity, *out, "--preview", "@OUT@/p.png"), (*identity, *out, "--dry-run"),
        (*identity, *out, "--bands", "1"),
        ("run", "-i", raster, *out), ("run", "-i", raster, "-m", "jupiter-rgb", *out),
        ("run", "-i", raster, "-m", "jupiter-rgb", *out, "--match-model-grid"),
        ("reproject", "-i", raster, *out, "--crs", "EPSG:4326"),
        ("reproject", "-i", raster, *out, "--crs", "EPSG:3857", "--resampling", "cubic"),
        ("reproject", "-i", raster, *out, "--crs", "EPSG:32632", "--resolution", "40", "--resampling", "average"),
        ("reproject", "-i", raster, *out, "--like", raster),
        ("evaluate", "-p", raster, "-r", raster, "--json", "@OUT@/e.json"),
        ("evaluate", "-p", raster, "-r", raster, "--metric", "mae", "--metric", "ssim", "--csv", "@OUT@/e.csv"),
        ("evaluate", "-p", raster, "--seams", "--metric", "mae"),
        ("models", "list", "--for", raster)))


def _options(random: Random) -> tuple[str, ...]:
    """A valid raster, and an option with a value that nobody means; nothing that names a file to write."""
    def nasty() -> str:
        return random.choice((random.choice(TEXTS), str(random.choice(NUMBERS)))).replace("\0", "")

    count = random.choice((1, 1, 2, 4))
    value = ",".join(nasty() for _ in range(count))
    run = ("run", "-i", "@IN@/a.tif", "-m", "identity", "-o", "@OUT@/o.tif")
    warp = ("reproject", "-i", "@IN@/a.tif", "-o", "@OUT@/o.tif")
    score = ("evaluate", "-p", "@IN@/a.tif", "-r", "@IN@/a.tif", "--metric", "psnr")
    key = random.choice(("data.window_px", "seed", "name", "data.source.bands", "a.b.c", "optimiser.lr", ""))
    return random.choice((
        *[(*run, name, value)
          for name in ("--bounds", "--bands", "--tile", "--overlap", "--seed", "--batch", "--device")],
        ("run", "-i", "@IN@/a.tif", "-m", value, "-o", "@OUT@/o.tif"),
        ("run", "-i", value.strip("/*") or ".", *run[3:]),  # not every raster of this machine
        (*warp, "--crs", value), (*warp, "--like", value),
        *[(*warp, "--crs", "EPSG:4326", name, value)
          for name in ("--resolution", "--bounds", "--tolerance", "--bands")],
        *[(*score, name, value)
          for name in ("--range", "--ratio", "--bands", "--reference-bands", "--metric", "--sensor")],
        ("models", "show", value), ("models", "list", "--for", value),
        ("train", "sp_i2i", "--source", "@IN@/a.tif", "--target", "@IN@/a.tif", "-o", "@OUT@/run", "--dry-run",
         "--set", f"{key}={value}")))


def from_entry(entry: dict, content: bytes) -> Case:
    return Case(entry["kind"], entry["seed"], entry["victim"], content, tuple(entry["arguments"]), entry["rehash"],
                from_json(entry.get("layout", [])))
