"""Small valid inputs of every kind, made by code: what the mutations start from."""

import io
import json
import os
import tempfile
import warnings
from pathlib import Path
from xml.sax.saxutils import escape

import h5py
import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from gpkg import variants, write_ahead
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT

PLACE = Affine(30, 0, 500_000, 0, -30, 4_500_000)
DEGREES = Affine(0.25, 0, -30, 0, -0.25, 20)
SECRET = b"TOP SECRET\n"
UTM, MARS = "EPSG:32631", "IAU_2015:49900"


class Seed:
    """Files of one input: name -> content; `victim` is the one that is mutated."""

    def __init__(self, files: dict[str, bytes], victim: str):
        self.files, self.victim = files, victim


def all_seeds() -> dict[str, dict[str, Seed]]:
    """Kind -> name -> seed."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["GDAL_PAM_ENABLED"] = "YES"
        tiffs, models = _tiffs(Path(folder)), _models(Path(folder))
        return {"tiff": tiffs | _claims(Path(folder)), "vrt": _vrts(Path(folder)), "sidecar": _sidecars(Path(folder)),
                "model": models, "recipe": _recipes(tiffs), "events": _events(), "list": _lists(tiffs),
                "layout": _beginnings(tiffs, models), "hdf5": _hdf5(Path(folder)), "gpkg": _gpkg(Path(folder))}


def pixels(dtype="uint8", bands=3, height=40, width=48) -> np.ndarray:
    """Smooth, so that it compresses, and different in every band."""
    rows, cols = np.mgrid[:height, :width]
    image = np.stack([(rows * (k + 2) + cols * (3 - k % 3)) % 200 + 1 for k in range(bands)])
    return (image / 7 if np.dtype(dtype).kind == "f" else image).astype(dtype)


def tiff(path: Path, image: np.ndarray, crs=UTM, transform=PLACE, mask=False, colours=None, names=(), tags=None,
         overviews=False, gcps=None, **profile) -> Path:
    count, height, width = image.shape
    place = {"gcps": gcps, "crs": crs} if gcps else {"crs": crs, "transform": transform}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(
            path, "w", driver="GTiff", count=count, height=height, width=width, dtype=str(image.dtype), **place,
            **profile) as out:
        if colours:
            out.colorinterp = [ColorInterp[c] for c in colours]
        out.write(image)
        if mask:
            out.write_mask(np.where(image[0] % 11 == 0, 0, 255).astype("uint8"))
        for k, name in enumerate(names):
            out.set_band_description(k + 1, name)
        out.update_tags(**(tags or {}))
    if overviews:
        with rasterio.Env(COMPRESS_OVERVIEW="DEFLATE"), rasterio.open(path, "r+") as out:
            out.build_overviews([2, 4], Resampling.nearest)
    return path


def _tiffs(folder: Path) -> dict[str, Seed]:
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    corners = [GroundControlPoint(r, c, 30 * c, -30 * r) for r in (0, 40) for c in (0, 48)]
    made = {
        "deflate": tiff(folder / "deflate", pixels(), compress="deflate"),
        "plain": tiff(folder / "plain", pixels(bands=1)),
        "lzw": tiff(folder / "lzw", pixels("int16"), compress="lzw", nodata=1, predictor=2, **tiled),
        "zstd": tiff(folder / "zstd", pixels("float32"), compress="zstd", nodata=float("nan"), predictor=3, **tiled),
        "jpeg": tiff(folder / "jpeg", pixels(), compress="jpeg", photometric="ycbcr", mask=True, **tiled),
        "mask": tiff(folder / "mask", pixels("uint16"), compress="deflate", mask=True, overviews=True),
        "big": tiff(folder / "big", pixels("uint16"), compress="deflate", BIGTIFF="YES",
                    names=("red", "green", "blue"), tags={"SENSOR": "a <camera>"}),
        "alpha": tiff(folder / "alpha", pixels(bands=4), compress="deflate",
                      colours=("red", "green", "blue", "alpha"), photometric="rgb"),
        "planar": tiff(folder / "planar", pixels("float64", 2, 20, 24), compress="packbits", interleave="band"),
        "motorola": tiff(folder / "motorola", pixels("int32", 2), compress="lzw", ENDIANNESS="BIG"),
        "mars": tiff(folder / "mars", pixels(), compress="deflate", crs=MARS, transform=DEGREES),
        "nowhere": tiff(folder / "nowhere", pixels(), compress="deflate", crs=None, transform=Affine.identity()),
        "gcps": tiff(folder / "gcps", pixels(), compress="deflate", gcps=corners),
        "complex": tiff(folder / "complex", pixels("float32", 1).astype("complex64"), compress="deflate"),
        "nbits": tiff(folder / "nbits", pixels() // 16, compress="deflate", NBITS=4),
        "block": tiff(folder / "block", pixels(height=300, width=400), compress="zstd", predictor=2, tiled=True,
                      blockxsize=512, blockysize=512),
        "sparse": tiff(folder / "sparse", np.zeros((3, 100, 100), "uint8"), SPARSE_OK=True, **tiled),
    }
    return {name: Seed({"a.tif": path.read_bytes()}, "a.tif") for name, path in made.items()}


def _claims(folder: Path) -> dict[str, Seed]:
    """Rasters that hold nothing and say that they are large."""
    ways = {"large": (100_000, {"tiled": True, "blockxsize": 512, "blockysize": 512}),
            "large blocks": (100_000, {"tiled": True, "blockxsize": 8192, "blockysize": 8192}),
            "large strips": (60_000, {"blockysize": 512})}
    made = {}
    for name, (side, profile) in ways.items():
        with rasterio.open(folder / name, "w", driver="GTiff", count=3, height=side, width=side, dtype="uint8", crs=UTM,
                           transform=PLACE, compress="deflate", SPARSE_OK=True, interleave="pixel", **profile):
            pass
        made[name] = Seed({"a.tif": (folder / name).read_bytes()}, "a.tif")
    return made


def _beginnings(tiffs: dict[str, Seed], models: dict[str, Seed]) -> dict[str, Seed]:
    """Rasters and a model, for commands that find something where they write."""
    more = {**models["weights"].files, "b.tif": tiffs["lzw"].files["a.tif"]}
    return {name: Seed({**more, "a.tif": tiffs[name].files["a.tif"]}, "a.tif")
            for name in ("deflate", "mask", "alpha", "nowhere", "plain")}


DATASET = """<VRTDataset rasterXSize="48" rasterYSize="40"><SRS>EPSG:32631</SRS>
<GeoTransform>500000, 30, 0, 4500000, 0, -30</GeoTransform>{}</VRTDataset>"""
BAND = '<VRTRasterBand dataType="Byte" band="1"{}>{}</VRTRasterBand>'
SOURCE = """<SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>1</SourceBand>
<SrcRect xOff="0" yOff="0" xSize="{0}" ySize="40"/><DstRect xOff="{1}" yOff="0" xSize="{0}" ySize="40"/>"""
FACTS = """<NoDataValue>7</NoDataValue><Description>red</Description><UnitType>m</UnitType><Offset>1</Offset>
<Scale>0.5</Scale><ColorInterp>Red</ColorInterp><Metadata><MDI key="A">b</MDI></Metadata><Overview>
<SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>1</SourceBand></Overview>"""
LOOKUP = "<NODATA>3</NODATA><ScaleOffset>1</ScaleOffset><ScaleRatio>2</ScaleRatio><LUT>0:5,255:9</LUT>"
KERNEL = '<Kernel normalized="1"><Size>3</Size><Coefs>0 1 0 1 1 1 0 1 0</Coefs></Kernel>'
RAW = """<SourceFilename relativeToVRT="1">raw.bin</SourceFilename><ImageOffset>0</ImageOffset>
<PixelOffset>1</PixelOffset><LineOffset>48</LineOffset><ByteOrder>LSB</ByteOrder>"""
SUM = "<PixelFunctionType>sum</PixelFunctionType><SourceTransferType>Byte</SourceTransferType>"
PYTHON = """<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>
<PixelFunctionCode>def f(i, o, *a, **k): open('written', 'w'); o[:] = 1</PixelFunctionCode>"""
DERIVED = ' subClass="VRTDerivedRasterBand"'


def _vrts(folder: Path) -> dict[str, Seed]:
    part = tiff(folder / "a.tif", pixels(), compress="deflate").read_bytes()
    whole = SOURCE.format(48, 0)
    simple = f"<SimpleSource>{whole}</SimpleSource>"
    halves = "".join(f"<SimpleSource>{SOURCE.format(24, left)}</SimpleSource>" for left in (0, 24))
    two = BAND.format("", halves) + BAND.format("", halves).replace('band="1"', 'band="2"')
    mask = "<MaskBand>" + BAND.format("", simple).replace(' band="1"', "") + "</MaskBand>"
    complex_source = f"{FACTS}<ComplexSource>{whole}{LOOKUP}</ComplexSource>"
    kernel = f"<KernelFilteredSource>{whole}{KERNEL}</KernelFilteredSource>"
    bands = {
        "mosaic": two, "complex": BAND.format("", complex_source), "kernel": BAND.format("", kernel),
        "mask": mask + BAND.format("", simple), "raw": BAND.format(' subClass="VRTRawRasterBand"', RAW),
        "derived": BAND.format(DERIVED, SUM + simple * 2), "python": BAND.format(DERIVED, PYTHON + simple),
        "overviews": '<OverviewList resampling="average">2</OverviewList>' + BAND.format("", simple),
        "nested": BAND.format("", simple.replace("a.tif", "b.vrt"))}
    made = {name: DATASET.format(text) for name, text in bands.items()} | {"warped": _warped(folder)}
    files = {"a.tif": part, "raw.bin": pixels(bands=1).tobytes(), "b.vrt": made["mosaic"].encode()}
    return {name: Seed({**files, "in.vrt": text.encode()}, "in.vrt") for name, text in made.items()}


def _warped(folder: Path) -> str:
    with rasterio.open(folder / "a.tif") as data, WarpedVRT(data, crs="EPSG:4326") as vrt:
        rasterio.shutil.copy(vrt, folder / "warped.vrt", driver="VRT")
    return (folder / "warped.vrt").read_text()


PAM = """<PAMDataset><SRS dataAxisToSRSAxisMapping="2,1">{}</SRS>
<GeoTransform>-30, 0.25, 0, 20, 0, -0.25</GeoTransform><Metadata><MDI key="AREA_OR_POINT">Point</MDI>
<MDI key="LATITUDE">planetocentric</MDI></Metadata><PAMRasterBand band="1"><Description>red</Description>
<NoDataValue>3</NoDataValue><UnitType>m</UnitType><Offset>1</Offset><Scale>2</Scale><ColorInterp>Red</ColorInterp>
<Metadata><MDI key="STATISTICS_MAXIMUM">9</MDI></Metadata></PAMRasterBand><GCPList Projection="EPSG:4326"/>
</PAMDataset>"""


def _sidecars(folder: Path) -> dict[str, Seed]:
    bare = {"compress": "deflate", "crs": None, "transform": Affine.identity()}
    whole = tiff(folder / "b.tif", pixels("int16"), **bare)
    content = whole.read_bytes()
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(whole, "r+") as out:
        out.write_mask(np.where(pixels(bands=1)[0] % 11 == 0, 0, 255).astype("uint8"))
    half = tiff(folder / "half", pixels("int16")[:, ::2, ::2], **bare)
    system = escape(rasterio.crs.CRS.from_string(MARS).to_wkt(version="WKT2_2019"))
    found = {"aux.xml": PAM.format(system).encode(), "msk": Path(f"{whole}.msk").read_bytes(), "ovr": half.read_bytes()}
    made = {name: Seed({"a.tif": content, f"a.tif.{name}": side}, f"a.tif.{name}") for name, side in found.items()}
    world = "30.0\n0.0\n0.0\n-30.0\n500015.0\n4499985.0\n"
    made["tfw"] = Seed({"a.tif": content, "a.tfw": world.encode()}, "a.tfw")
    return made


def _models(folder: Path) -> dict[str, Seed]:
    import torch
    from geoi2i.core.inference.steps import Step, StepTable, schrodinger_bridge_table
    from geoi2i.core.models.manifest import BandSpec, Manifest, NetworkSpec
    from geoi2i.core.models.package import save_package
    from geoi2i.core.networks.resnet import ResnetGenerator, ResnetSizes

    torch.manual_seed(0)
    sizes = ResnetSizes(bands_in=3, bands_out=3, width=4, blocks=0, levels=1, style=1, embedding=8)
    network = ResnetGenerator(sizes).eval().requires_grad_(False)
    bands = tuple(BandSpec(name=name, unit="DN", minimum=0, maximum=255, colour=name)
                  for name in ("red", "green", "blue"))
    facts = {"name": "tiny", "title": "Random weights", "licence": "CC0-1.0", "bands_in": bands, "bands_out": bands,
             "normalise_in": {"kind": "range", "minimum": (0,) * 3, "maximum": (255,) * 3},
             "normalise_out": {"kind": "percentile"}, "pixel_size_m": 30, "body": "Earth", "overlap_px": 8,
             "recipe": {"name": "tiny", "data": {"paths": ["a.tif"]}}, "metrics": {"mae": 1.5},
             "training_data": "None."}
    package = save_package(folder / "tiny", Manifest(
        **facts, network=NetworkSpec(name="resnet", sizes=dict(sizes)), table=schrodinger_bridge_table(2),
        presets=(schrodinger_bridge_table(1),), scale="2", margin_px=network.radius_px, multiple_of=network.stride,
        tile_px=32), network)
    files = {f"model/{path.name}": path.read_bytes() for path in package.folder.iterdir()}
    files["a.tif"] = tiff(folder / "c.tif", pixels(), compress="deflate").read_bytes()
    table = StepTable(steps=(Step(c_skip=0.5, c_source=0.5, c_out=0, noise=0.1), Step(c_skip=1, c_out=0, memory=0.1)),
                      clip=(-1, 1), noise_std=0.1)
    manifest = Manifest(**facts, table=table).model_dump_json(indent=1).encode()
    return {"manifest": Seed(files, "model/manifest.json"), "weights": Seed(files, "model/weights.safetensors"),
            "table": Seed({"model/manifest.json": manifest, "a.tif": files["a.tif"]}, "model/manifest.json")}


def _recipes(tiffs: dict[str, Seed]) -> dict[str, Seed]:
    band = {"name": "red", "unit": "DN", "minimum": 0, "maximum": 255, "colour": "red"}
    whole = {
        "name": "r", "method": "sp_i2i", "seed": 1,
        "data": {"window_px": 16, "batch": 1, "min_valid": 0.5, "latitude_zones": [-10, 10], "match_grid": False,
                 "source": {"paths": ["@IN@/a.tif"], "exclude": ["x"], "bands": [1, 2, 3]},
                 "target": {"paths": ["@IN@/a.tif"]}},
        "bands": {"source": [band] * 3, "target": [band], "dtype": "same",
                  "normalise_in": {"kind": "range", "minimum": [0] * 3, "maximum": [255] * 3},
                  "normalise_out": {"kind": "percentile", "low": 1, "high": 99}},
        "network": {"name": "resnet", "sizes": {"width": 8, "blocks": 1}},
        "optimiser": {"lr": 1e-3, "betas": [0.5, 0.9], "ema": 0.9}, "budget": {"steps": 10, "ships": "last"},
        "settings": {"steps": 2, "tau": 0.01}, "package": {"title": "t", "tile_px": 64}}
    short = {key: whole[key] for key in ("name", "method", "data")}
    written = {name: "".join(f"{key} = {_toml(value)}\n" for key, value in content.items())
               for name, content in (("whole", whole), ("short", short))}
    return {name: Seed({"r.toml": text.encode(), **tiffs["deflate"].files}, "r.toml") for name, text in written.items()}


def _toml(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    return "[" + ", ".join(map(_toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


def _events() -> dict[str, Seed]:
    lines = [{"event": "message", "text": "Model x suits y."}, {"event": "cancelled"},
             {"event": "progress", "done": 5, "total": 40, "text": "a"}, {"event": "done", "outputs": ["/a/b.tif"]},
             {"event": "failed", "text": "No.", "exit_code": 2}]
    return {"events": Seed({"e.jsonl": "\n".join(map(json.dumps, lines)).encode()}, "e.jsonl")}


def _lists(tiffs: dict[str, Seed]) -> dict[str, Seed]:
    files = {"a.tif": tiffs["deflate"].files["a.tif"], "b/c.tif": tiffs["plain"].files["a.tif"]}
    lines = ["@IN@/a.tif", "@IN@/b/c.tif", "", "  @IN@/none.tif  "]
    return {"list": Seed({**files, "list.txt": "\n".join(lines).encode()}, "list.txt")}


def _hdf5(folder: Path) -> dict[str, Seed]:
    image, names = pixels(bands=1, height=20, width=24)[0], ("y", "x")

    def cf(file: h5py.File) -> None:
        for name, size in zip(names, image.shape):
            file[name] = np.arange(size, dtype="f8")
            file[name].attrs["units"] = "m"
            file[name].make_scale(name)
        data = file.create_dataset("d", data=image)
        for k, name in enumerate(names):
            data.dims[k].attach_scale(file[name])
        data.attrs["grid_mapping"] = "crs"
        file.create_dataset("crs", data=0).attrs["spatial_ref"] = rasterio.crs.CRS.from_string(UTM).to_wkt()

    def groups(file: h5py.File) -> None:
        file["a/b/d"] = image
        file["d"], file["a/up"], file["soft"] = file["a/b/d"], file["/"], h5py.SoftLink("/soft")
        file["a"].attrs["text"] = "a" * 100

    def chunked(file: h5py.File) -> None:
        data = file.create_dataset("d", data=image, chunks=(8, 8), compression="gzip", shuffle=True, fletcher32=True,
                                   fillvalue=7, maxshape=(None, 24))
        data.attrs["_FillValue"] = np.uint8(7)

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(image.shape, "uint8")
        layout[:] = h5py.VirtualSource("../secret.h5", "d", image.shape)
        file.create_virtual_dataset("d", layout)

    def external(file: h5py.File) -> None:
        file.create_dataset("d", image.shape, "uint8", external=[("../secret.bin", 0, image.size)])

    def outward(file: h5py.File) -> None:
        file["d"] = h5py.ExternalLink("../secret.h5", "/d")

    def kinds(file: h5py.File) -> None:
        file["d"] = pixels("int16", height=20, width=24)
        file["text"], file["none"] = ["a", "b" * 99], h5py.Empty("f4")
        file["pair"] = np.zeros(4, [("a", "i4"), ("b", "f8", 3)])
        file["many"], file["point"] = np.zeros((1, 2, 1, 3)), file["d"].ref

    ways = {"plain": lambda file: file.create_dataset("d", data=image), "cf": cf, "groups": groups, "chunked": chunked,
            "virtual": virtual, "external": external, "outward": outward, "kinds": kinds}
    made = {}
    for name, fill in ways.items():
        for age in ("earliest", "v110"):
            ending = "nc" if name == "cf" else "h5"
            with h5py.File(folder / f"{name}.{ending}", "w", libver=(age, "v110")) as file:
                fill(file)
            made[f"{name} {age}"] = Seed({f"a.{ending}": (folder / f"{name}.{ending}").read_bytes()}, f"a.{ending}")
    return made


def secret_hdf5() -> bytes:
    """A file with data that no command was told of."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file["d"] = np.frombuffer(SECRET * 44, "uint8")[:480].reshape(20, 24)
    return memory.getvalue()


def _gpkg(folder: Path) -> dict[str, Seed]:
    with rasterio.open(folder / "t.gpkg", "w", driver="GPKG", count=3, height=20, width=24, dtype="uint8", crs=UTM,
                       transform=PLACE, BLOCKSIZE=16, TILE_FORMAT="PNG") as out:
        out.write(pixels(height=20, width=24))
    made = {name: Seed({"a.gpkg": text}, "a.gpkg") for name, text in variants(folder / "t.gpkg").items()}
    base, log = write_ahead(folder, made["plain"].files["a.gpkg"])
    for victim in ("a.gpkg", "a.gpkg-wal"):
        made[f"ahead, {victim}"] = Seed({"a.gpkg": base, "a.gpkg-wal": log}, victim)
    return made
