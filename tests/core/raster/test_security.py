"""Laws of trust: a raster from anybody gives away no other file, asks no server and takes no memory it does not need.

Each attack is shown twice: refused by us, and, where that is stable, carried out by rasterio alone.
"""

import base64
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from html import escape
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.errors
import rasterio.shutil
from affine import Affine
from geoi2i.core.errors import DeviceError, RasterError
from geoi2i.core.grid import Window
from geoi2i.core.raster.limits import STANDARD, Limits
from geoi2i.core.raster.opening import GDAL_SETTINGS
from geoi2i.core.raster.security import inspect
from geoi2i.core.raster.source import RasterSource

HEIGHT, WIDTH = 53, 37
PLACE = Affine(30, 0, 500_000, 0, -30, 4_500_000)
SECRET = b"the-secret-" * 400
SIZES = f'rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}"'


# --- what attacks and ordinary rasters are made of ----------------------------------------------------


class Place:
    """A folder with a good raster, a secret file and the address of a server that notes who connects."""

    def __init__(self, folder, port):
        self.folder, self.url = folder, f"http://127.0.0.1:{port}/{folder.name}.tif"
        (folder / "secret.txt").write_bytes(SECRET)
        self.good = self.tiff("good.tif")

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def tiff(self, name, height=HEIGHT, width=WIDTH, bands=1, driver="GTiff", dtype="uint8", domain=None, **profile):
        pixels = np.random.default_rng(len(name)).integers(1, 200, (bands, height, width)).astype(dtype)
        profile = {"crs": "EPSG:32631", "transform": PLACE} | profile if profile.get("crs", 1) else {}
        with rasterio.open(self.folder / name, "w", driver=driver, count=bands, height=height, width=width,
                           dtype=dtype, **profile) as out:
            out.write(pixels)
            if domain:
                out.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=domain)
        return str(self.folder / name)

    def secret_band(self):
        """A VRT band whose pixels are the bytes of the secret file."""
        return (f'<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
                f'<SourceFilename relativeToVRT="0">{self.folder}/secret.txt</SourceFilename>'
                f"<PixelOffset>1</PixelOffset><LineOffset>{WIDTH}</LineOffset></VRTRasterBand>")

    def secret_vrt(self):
        return dataset(self.secret_band())

    def vrt(self, content, name="in.vrt"):
        return self.file(name, content)


def dataset(inner, more=""):
    return f"<VRTDataset {SIZES} {more}>{inner}</VRTDataset>"


def band(inner, more=""):
    return f'<VRTRasterBand dataType="Byte" band="1" {more}>{inner}</VRTRasterBand>'


def source(name, relative=1, kind="SimpleSource", more=""):
    return (f'<{kind}><SourceFilename relativeToVRT="{relative}">{escape(name)}</SourceFilename>'
            f"<SourceBand>1</SourceBand>{more}</{kind}>")


def warped(name, system="EPSG:32631", before="", more=""):
    """What gdalwarp -of VRT writes, over a raster of the same grid."""
    identity = "".join(f"<{kind}GeoTransform>0,1,0,0,0,1</{kind}GeoTransform>" for kind in ("Src", "SrcInv"))
    after = "".join(f"<{kind}GeoTransform>0,1,0,0,0,1</{kind}GeoTransform>" for kind in ("Dst", "DstInv"))
    return dataset(
        f'<VRTRasterBand dataType="Byte" band="1" subClass="VRTWarpedRasterBand"/><BlockXSize>{WIDTH}</BlockXSize>'
        f"<BlockYSize>{HEIGHT}</BlockYSize><GDALWarpOptions><ResampleAlg>NearestNeighbour</ResampleAlg>"
        f'<WorkingDataType>Byte</WorkingDataType><Option name="INIT_DEST">0</Option>'
        f'<SourceDataset relativeToVRT="0">{name}</SourceDataset>{more}<Transformer><ApproxTransformer>'
        f"<MaxError>0.125</MaxError><BaseTransformer><GenImgProjTransformer>{before or identity}{after}"
        f"<ReprojectTransformer><ReprojectionTransformer><SourceSRS>{system}</SourceSRS>"
        f"<TargetSRS>EPSG:32631</TargetSRS></ReprojectionTransformer></ReprojectTransformer></GenImgProjTransformer>"
        '</BaseTransformer></ApproxTransformer></Transformer><BandList><BandMapping src="1" dst="1"/></BandList>'
        "</GDALWarpOptions>", 'subClass="VRTWarpedDataset"')


def isis(core, kind="BandSequential"):
    return (f"Object = IsisCube\n  Object = Core\n    ^Core = {core}\n    StartByte = 1\n    Format = {kind}\n"
            f"    Group = Dimensions\n      Samples = {WIDTH}\n      Lines = {HEIGHT}\n      Bands = 1\n    End_Group\n"
            "    Group = Pixels\n      Type = UnsignedByte\n      ByteOrder = Lsb\n      Base = 0.0\n"
            "      Multiplier = 1.0\n    End_Group\n  End_Object\nEnd_Object\nEnd\n")


def pds(file, more=""):
    return (f'PDS_VERSION_ID = PDS3\r\nRECORD_TYPE = FIXED_LENGTH\r\nRECORD_BYTES = {WIDTH}\r\n'
            f'^IMAGE = ("{file}",1)\r\n{more}OBJECT = IMAGE\r\n LINES = {HEIGHT}\r\n LINE_SAMPLES = {WIDTH}\r\n'
            " SAMPLE_TYPE = UNSIGNED_INTEGER\r\n SAMPLE_BITS = 8\r\nEND_OBJECT = IMAGE\r\nEND\r\n")


ENVI = f"ENVI\nsamples = {WIDTH}\nlines = {HEIGHT}\nbands = 1\ndata type = 1\ninterleave = bsq\nbyte order = 0\n"
# HDF5 files of 53 x 37 bytes that are kept in "secret.txt", in the oldest and in the newest layout of the format.
HDF5_OLD = (
    "c-rgqaB<`1lHy_j0S*oZ76t(ZWbhvfHn5`dVe$!3nh{EOK<O1sFmXn(oCH){5NbZUx{x4OSCH!eXaHtU1`CAdU>F4>5qP*d27u@YC?A$ePcW"
    "gXt3XSS9u(Tk$iNOUixI}xfY3}30aK_tRVa<lX9l{I5$aw>q!i2wq(OWpCWt}oKyw+PYCt*007rUX$qo~T<S1rFSWbb-K!6ZbC&)Z~U#4sZ1"
    "_!Ffg9KVQ2e6>3D^5)=N-fbVsVIT)gZ=znK>mXHM}c`XO_Kuv`P@BY")
HDF5_NEW = (
    "c-rgqaB<`1lHy|K;9!7(|4_ir1mPP%#Xmj0YVPmh62!z%!6byN5C*uI7#JBC*mxL#6l29^n0X!yR0EkmWop1qP}KKj%0|WvjEpJ_3`|UnjHX"
    "bvs!$r8&&<QXD8K-6BM5LXumWAp%*Cz&GyyEi$Z#Ga#lV4P`$~4GIMDaZj4)rrL>X!r1{B11o38M1bqoNpC7@zZk1)JvL{(dynp~7xqE}K;0"
    "^tJycKtgD")


def claims(width, height, tile=None, bands=1, compression=5, rows=None):
    """A TIFF of nothing but a directory that claims these sizes."""
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 277: bands, 284: 1}
    tags |= {322: tile, 323: tile, 324: 8, 325: 8} if tile else {273: 8, 278: rows or height, 279: 8}
    entries = b"".join(struct.pack("<HHII", tag, 4 if value > 65535 else 3, 1, value)
                       for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IQH", 16, 0, len(tags)) + entries + bytes(4)


@pytest.fixture(scope="module")
def server():
    """A port of this machine that takes connections, and the list of what came in."""
    arrived = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def listen():
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.settimeout(2)
                        with suppress(OSError):
                            arrived.append(connection.recv(200))
                            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n"
                                               b"Connection: close\r\n\r\n")

        threading.Thread(target=listen, daemon=True).start()
        yield listening.getsockname()[1], arrived
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def place(tmp_path, server, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path, server[0])


def all_that_rasterio_reads(path):
    """Every byte that rasterio alone gives: pixels, reduced pixels and masks."""
    with rasterio.Env(GDAL_VRT_ENABLE_PYTHON="NO"), suppress(rasterio.errors.RasterioError), \
            rasterio.open(path) as data:
        small = (data.count, max(1, data.height // 10), max(1, data.width // 10))
        reads = (data.read, lambda: data.read(out_shape=small), lambda: data.read_masks(1))
        found = []
        for read in reads:
            with suppress(rasterio.errors.RasterioError):
                found.append(read().tobytes())
        return b"".join(found)
    return b""


def all_that_we_read(path, limits=STANDARD):
    raster = RasterSource.open(path, limits=limits)
    parts = [raster.decimated(max(raster.grid.height, raster.grid.width) // 10), *raster.rows()]
    return b"".join(part.tobytes() for rows in parts for part in (rows.pixels, rows.mask) if part is not None)


# --- attacks -----------------------------------------------------------------------------------------

SECRETS = {
    "a raw band": lambda p: p.vrt(p.secret_vrt()),
    "a raw band in a file with another ending": lambda p: p.vrt(p.secret_vrt(), "in.tif"),
    "a raw band in other letters": lambda p: p.vrt(p.secret_vrt().replace("RasterBand", "rasterband").replace(
        "subClass", "SUBCLASS")),
    "a raw band whose class is an element": lambda p: p.vrt(dataset(band(
        f"<subClass>VRTRawRasterBand</subClass><SourceFilename>{p.folder}/secret.txt</SourceFilename>"))),
    "a raw band for a mask": lambda p: p.vrt(dataset(
        band(source("good.tif")) + f"<MaskBand>{p.secret_band()}</MaskBand>")),
    "the text of a VRT for a path": lambda p: p.secret_vrt(),
    "a raw band in a VRT of a VRT": lambda p: (
        p.vrt(p.secret_vrt(), "inner.vrt"), p.vrt(dataset(band(source("inner.vrt")))))[1],
    "the text of a VRT for a source": lambda p: p.vrt(dataset(band(source(p.secret_vrt(), 0)))),
    "a name in an attribute": lambda p: (p.vrt(p.secret_vrt(), "inner.vrt"), p.vrt(dataset(band(
        f'<SimpleSource SourceFilename="{p.folder}/inner.vrt"><SourceBand>1</SourceBand></SimpleSource>'))))[1],
    "a connection string": lambda p: (p.vrt(p.secret_vrt(), "inner.vrt"), p.vrt(dataset(band(
        source(f"vrt://{p.folder}/inner.vrt", 0)))))[1],
    "a source that is a JPEG and a VRT": lambda p: (
        p.vrt(b"\xff\xd8\xff\xfe" + p.secret_vrt().encode(), "a.jpg"), p.vrt(dataset(band(source("a.jpg")))))[1],
    "a source that is a bitmap and a PDS label": lambda p: (
        p.file("in.bmp", "BM " + pds("secret.txt")), p.vrt(dataset(band(source("in.bmp")))))[1],
    "a source of a warped VRT": lambda p: (
        p.vrt(p.secret_vrt(), "inner.vrt"), p.vrt(warped(f"{p.folder}/inner.vrt")))[1],
    "overviews that are a VRT": lambda p: (
        p.vrt(p.secret_vrt(), "large.tif.ovr"), p.tiff("large.tif", 530, 370))[1],
    "a mask that is a VRT": lambda p: (p.vrt(dataset(
        '<Metadata><MDI key="INTERNAL_MASK_FLAGS_1">2</MDI></Metadata>' + p.secret_band()), "good.tif.msk"), p.good)[1],
    "overviews in the metadata of a TIFF": lambda p: p.tiff("large.tif", 530, 370, domain=p.secret_vrt()),
    "overviews in the metadata of a JP2": lambda p: _jp2(p),
    "overviews in an .aux.xml": lambda p: (p.file("large.tif.aux.xml", (
        '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW&#95;FILE">' + escape(p.secret_vrt())
        + "</MDI></Metadata></PAMDataset>")), p.tiff("large.tif", 530, 370))[1],
    "an ISIS label with data elsewhere": lambda p: p.file("in.cub", isis("secret.txt")),
    "an ISIS label with data in a VRT": lambda p: (
        p.file("in.tif", p.secret_vrt()), p.file("in.cub", isis("in.tif", "GeoTIFF")))[1],
    "a PDS label with data elsewhere": lambda p: p.file("in.lbl", pds(f"../{p.folder.name}/secret.txt")),
    "a PDS label with data in a VRT": lambda p: (p.file("in.dat", p.secret_vrt()), p.file("in.lbl", pds("none.img", (
        'OBJECT = COMPRESSED_FILE\r\n FILE_NAME = "in.dat"\r\n ENCODING_TYPE = "X"\r\nEND_OBJECT = COMPRESSED_FILE'
        "\r\n"))))[1],
    "an ENVI header beside a link": lambda p: (
        p.file("in.hdr", ENVI), os.symlink("secret.txt", p.folder / "in.img"), str(p.folder / "in.img"))[2],
    "an HDF5 file with data elsewhere": lambda p: p.file("in.h5", zlib.decompress(base64.b85decode(HDF5_OLD))),
    "a new HDF5 file with data elsewhere": lambda p: p.file("in.h5", zlib.decompress(base64.b85decode(HDF5_NEW))),
    "a netCDF variable with data elsewhere": lambda p: (
        f'NETCDF:"{p.file("in.nc", zlib.decompress(base64.b85decode(HDF5_NEW)))}":x'),
}

RPC = {"LINE_OFF": 1, "SAMP_OFF": 1, "LAT_OFF": 1, "LONG_OFF": 1, "HEIGHT_OFF": 1, "LINE_SCALE": 1, "SAMP_SCALE": 1,
       "LAT_SCALE": 1, "LONG_SCALE": 1, "HEIGHT_SCALE": 1} | {
    f"{axis}_{part}_COEFF": "1 " * 20 for axis in ("LINE", "SAMP") for part in ("NUM", "DEN")}


def _jp2(p):
    copy = str(p.folder / "large.jp2")
    rasterio.shutil.copy(p.tiff("large.tif", 530, 370, domain=p.secret_vrt()), copy, driver="JP2OpenJPEG",
                         write_metadata="YES")
    Path(f"{copy}.aux.xml").unlink(missing_ok=True)
    return copy


def _items(facts):
    return "<Metadata>" + "".join(f'<MDI key="{key}">{value}</MDI>' for key, value in facts.items()) + "</Metadata>"


REQUESTS = {
    "a source on a server": lambda p: p.vrt(dataset(band(source(f"/vsicurl/{p.url}", 0)))),
    "a source with an address": lambda p: p.vrt(dataset(band(source(p.url, 0)))),
    "a source streamed from a server": lambda p: p.vrt(dataset(band(source(f"/vsicurl_streaming/{p.url}", 0)))),
    "a source in an archive on a server": lambda p: p.vrt(dataset(band(source(
        f"/vsizip//vsicurl/{p.url}.zip/a.tif", 0)))),
    "a service description": lambda p: _service(p),
    "a source that describes a service": lambda p: (_service(p), p.vrt(dataset(band(source("service.xml")))))[1],
    "overviews on a server": lambda p: p.tiff("large.tif", 530, 370, domain=f"/vsicurl/{p.url}"),
    "a link to a server for overviews": lambda p: (
        os.symlink(f"/vsicurl/{p.url}", p.folder / "good.tif.ovr"), p.good)[1],
    "a warped VRT of a raster on a server": lambda p: p.vrt(warped(f"/vsicurl/{p.url}")),
    "a CRS on a server": lambda p: p.vrt(warped(p.good, p.url)),
    "a height model on a server": lambda p: p.vrt(warped(p.good, before=(
        f"<SrcRPCTransformer><RPCTransformer>{_items(RPC)}<DEMPath>/vsicurl/{p.url}</DEMPath></RPCTransformer>"
        "</SrcRPCTransformer>"))),
    "places of pixels on a server": lambda p: p.vrt(warped(p.good, before=(
        "<SrcGeoLocTransformer><GeoLocTransformer>" + _items({
            "X_DATASET": f"/vsicurl/{p.url}", "Y_DATASET": f"/vsicurl/{p.url}", "X_BAND": 1, "Y_BAND": 1,
            "PIXEL_OFFSET": 0, "LINE_OFFSET": 0, "PIXEL_STEP": 1, "LINE_STEP": 1})
        + "</GeoLocTransformer></SrcGeoLocTransformer>"))),
    "a sharp band on a server": lambda p: p.vrt(dataset(
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTPansharpenedRasterBand"/><PansharpeningOptions>'
        f'<PanchroBand><SourceFilename relativeToVRT="0">/vsicurl/{p.url}</SourceFilename></PanchroBand>'
        '<SpectralBand dstBand="1"><SourceFilename relativeToVRT="1">good.tif</SourceFilename></SpectralBand>'
        "</PansharpeningOptions>", 'subClass="VRTPansharpenedDataset"')),
    "a processed raster on a server": lambda p: p.vrt(_processed(source(f"/vsicurl/{p.url}", 0))),
}


def _processed(inner, algorithm="BandAffineCombination", arguments='<Argument name="coefficients_1">0,1</Argument>'):
    name = inner[inner.index("<SourceFilename"):inner.index("<SourceBand")]
    return (f'<VRTDataset subClass="VRTProcessedDataset"><Input>{name}</Input><ProcessingSteps><Step name="one">'
            f"<Algorithm>{algorithm}</Algorithm>{arguments}</Step></ProcessingSteps></VRTDataset>")


def _service(p):
    return p.file("service.xml", (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{p.url}</ServerUrl></Service><DataWindow><UpperLeftX>-180'
        "</UpperLeftX><UpperLeftY>90</UpperLeftY><LowerRightX>180</LowerRightX><LowerRightY>-90</LowerRightY><SizeX>"
        f"{WIDTH}</SizeX><SizeY>{HEIGHT}</SizeY><TileLevel>0</TileLevel></DataWindow><BandsCount>1</BandsCount>"
        "</GDAL_WMS>"))


OTHERS = {
    "a text file": lambda p: p.vrt(dataset(band(source("secret.txt")))),
    "a file of the system": lambda p: p.vrt(dataset(band(source("/etc/passwd", 0)))),
    "a missing file": lambda p: p.vrt(dataset(band(source("none.tif")))),
    "a device": lambda p: p.vrt(dataset(band(source("/dev/zero", 0)))),
    "a folder": lambda p: p.vrt(dataset(band(source(".")))),
    "a part of a file": lambda p: p.vrt(dataset(band(source(f"/vsisubfile/0_99,{p.good}", 0)))),
    "an archive": lambda p: p.vrt(dataset(band(source(f"/vsizip/{p.folder}/a.zip/a.tif", 0)))),
    "a page of a TIFF": lambda p: p.vrt(dataset(band(source(f"GTIFF_DIR:1:{p.good}", 0)))),
    "a share": lambda p: p.vrt(dataset(band(source("//server/share/a.tif", 0)))),
    "a name with a space at its end": lambda p: p.vrt(dataset(band(source("good.tif ")))),
    "overviews of a band": lambda p: (p.vrt(p.secret_vrt(), "inner.vrt"), p.vrt(dataset(band(
        source("good.tif") + '<Overview><SourceFilename relativeToVRT="1">inner.vrt</SourceFilename></Overview>'))))[1],
    "overviews in metadata": lambda p: p.vrt(dataset(
        "<Metadata domain='OVERVIEWS'><MDI key='OVERVIEW_FILE'>x</MDI></Metadata>" + band(source("good.tif")))),
    "an array": lambda p: p.vrt(
        f'<VRTDataset><Group name="/"><Dimension name="X" size="5"/><Array name="a"><DataType>Byte</DataType>'
        f'<DimensionRef ref="X"/><Source><SourceFilename>/vsicurl/{p.url}</SourceFilename></Source></Array></Group>'
        "</VRTDataset>"),
    "a file of a processing step": lambda p: p.vrt(_processed(
        source("good.tif"), "LocalScaleOffset", f'<Argument name="gain_dataset_filename_1">{p.url}</Argument>')),
    "a destination": lambda p: p.vrt(warped(
        p.good, more=f"<DestinationDataset>{p.good}</DestinationDataset>")),
    "a grid of heights": lambda p: p.vrt(warped(p.good).replace(
        "<GDALWarpOptions>", f"<VerticalShiftGrids><Grids>/vsicurl/{p.url}</Grids></VerticalShiftGrids>"
                             "<GDALWarpOptions>")),
    "an opening option": lambda p: p.vrt(dataset(band(source(
        "good.tif", more='<OpenOptions><OOI key="ROOT_PATH">/</OOI></OpenOptions>')))),
    "a pixel function in Python": lambda p: p.vrt(dataset(band(
        "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        + source("good.tif"), 'subClass="VRTDerivedRasterBand"'))),
    "code": lambda p: p.vrt(dataset(band(
        "<PixelFunctionType>f</PixelFunctionType><PixelFunctionCode>import os</PixelFunctionCode>"
        + source("good.tif"), 'subClass="VRTDerivedRasterBand"'))),
    "entities": lambda p: p.vrt('<!DOCTYPE VRTDataset [<!ENTITY a "b">]>' + dataset(band(source("good.tif")))),
    "CDATA": lambda p: p.vrt(dataset(band(source("good.tif")).replace("good.tif", "<![CDATA[good.tif]]>"))),
    "an instruction that hides elements": lambda p: p.vrt(dataset(
        f"<?x >{p.secret_band()}<?y ?>" + band(source("good.tif")))),
    "text in another encoding": lambda p: p.vrt(dataset(band(source("good.tif"))).encode("utf-16")),
    "elements 100 deep": lambda p: p.vrt(dataset("<Option>" * 100 + "</Option>" * 100)),
    "itself": lambda p: p.vrt(dataset(band(source("in.vrt")))),
    "a file that names itself in turns": lambda p: (
        p.vrt(dataset(band(source("in.vrt"))), "other.vrt"), p.vrt(dataset(band(source("other.vrt")))))[1],
    "thousands of thousands of files": lambda p: _many_of_many(p),
    "a long chain": lambda p: _chain(p, 40),
    "an .aux of another format beside a world file": lambda p: (
        p.file("good.tfw", "1\n0\n0\n-1\n0\n0\n"), p.file("good.aux", b"EHFA_HEADER_TAG"), p.good)[2],
    "an .aux.xml with entities": lambda p: (p.file(
        "good.tif.aux.xml", '<!DOCTYPE a [<!ENTITY b "c">]><PAMDataset/>'), p.good)[1],
    "an .aux.xml of 17 MB": lambda p: (p.file("good.tif.aux.xml", b"<PAMDataset>".ljust(17 << 20)), p.good)[1],
    "a world file that is a pipe": lambda p: (os.mkfifo(p.folder / "good.tfw"), p.good)[1],
    "a pipe": lambda p: (os.mkfifo(p.folder / "in.tif"), str(p.folder / "in.tif"))[1],
    "a link to a server": lambda p: (
        os.symlink(f"/vsicurl/{p.url}", p.folder / "in.tif"), str(p.folder / "in.tif"))[1],
    "an HFA file with data of another name": lambda p: _hfa_with_other_data(p),
    "an HDF5 file of 8 bytes": lambda p: p.file("in.h5", b"\x89HDF\r\n\x1a\n"),
    "a path with a line break": lambda p: f"{p.good}\n",
}


def _many_of_many(p):
    p.vrt(dataset(band(source("good.tif") * 40)), "0.vrt")
    for k in range(1, 8):
        p.vrt(dataset(band(source(f"{k - 1}.vrt") * 40)), f"{k}.vrt")
    return str(p.folder / "7.vrt")


def _chain(p, length):
    p.vrt(dataset(band(source("good.tif"))), "0.vrt")
    for k in range(1, length):
        p.vrt(dataset(band(source(f"{k - 1}.vrt"))), f"{k}.vrt")
    return str(p.folder / f"{length - 1}.vrt")


def _hfa_with_other_data(p):
    path = Path(p.tiff("ab.img", driver="HFA", use_spill="YES"))
    os.rename(p.folder / "ab.ige", p.folder / "xy.ige")
    path.write_bytes(path.read_bytes().replace(b"ab.ige", b"xy.ige"))
    return str(path)


ATTACKS = SECRETS | REQUESTS | OTHERS


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_raster_is_refused_in_a_sentence_and_reads_and_asks_nothing_else(attack, place, server):
    path = ATTACKS[attack](place)
    before = len(server[1])
    with pytest.raises(RasterError) as error:
        all_that_we_read(path)
    text = str(error.value)
    assert text.endswith(".") and text.isprintable() and (": " in text or ". " in text), text
    assert len(server[1]) == before


@pytest.mark.parametrize("attack", SECRETS)
def test_rasterio_alone_gives_the_secret_away(attack, place):
    """Why we look: if this fails after an update of GDAL, the attack is history."""
    path = SECRETS[attack](place)
    if "HDF5" in attack or "netCDF" in attack:  # which reads its settings once in a process: here, maybe ours
        program = "import rasterio, sys; sys.stdout.buffer.write(rasterio.open(sys.argv[1]).read().tobytes())"
        assert b"the-secret-the-secret" in subprocess.run([sys.executable, "-c", program, path], check=True,
                                                          capture_output=True).stdout
    else:
        assert b"the-secret-the-secret" in all_that_rasterio_reads(path)


@pytest.mark.parametrize("attack", ["a source on a server", "a source with an address", "a service description",
                                    "a source streamed from a server", "overviews on a server",
                                    "a link to a server for overviews", "a CRS on a server",
                                    "a source in an archive on a server"])
def test_rasterio_alone_asks_the_server(attack, place, server):
    path, before = REQUESTS[attack](place), len(server[1])
    all_that_rasterio_reads(path)
    assert len(server[1]) > before


@pytest.mark.parametrize("attack", REQUESTS)
def test_even_what_our_look_would_miss_reaches_no_server(attack, place, server):
    """The second lock, without the first: GDAL with the settings under which we open a local file."""
    settings = inspect(place.good, Limits()).settings
    path, before = REQUESTS[attack](place), len(server[1])
    with rasterio.Env(**GDAL_SETTINGS, **settings):
        all_that_rasterio_reads(path)
    assert len(server[1]) == before


def test_what_lies_beside_a_raster_and_is_none_of_its_sidecars_is_not_read(place):
    """GDAL takes good.tif.Ovr for its overviews where it lists the folder, also in its own threads."""
    for name in ("one.tif", "two.tif"):
        place.tiff(name, 530, 370)
        place.vrt(place.secret_vrt(), f"{name}.Ovr")
    assert b"the-secret-the-secret" in all_that_rasterio_reads(str(place.folder / "one.tif"))
    mosaic = place.vrt(dataset(band(source("one.tif") + source("two.tif"))))
    with ThreadPoolExecutor(1) as other_thread:
        for path in ("one.tif", mosaic):
            for read in (all_that_we_read(path), other_thread.submit(all_that_we_read, path).result()):
                assert b"the-secret" not in read


def test_python_in_a_vrt_stays_off_whatever_the_environment_says(place, monkeypatch):
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    with pytest.raises(RasterError, match="Python"):
        all_that_we_read(OTHERS["a pixel function in Python"](place))
    assert GDAL_SETTINGS["GDAL_VRT_ENABLE_PYTHON"] == "NO" and GDAL_SETTINGS["VRT_NUM_THREADS"] == "1"


def test_what_took_the_place_of_a_raster_meanwhile_is_looked_at_too(place):
    raster = RasterSource.open(place.good)
    place.vrt(place.secret_vrt(), "good.tif")
    for read in (raster.decimated, lambda: list(raster.rows()), lambda: raster.read(whole(raster))):
        with pytest.raises(RasterError, match="raw bands"):
            read()
    with raster.windows(0) as windows, pytest.raises(RasterError, match="raw bands"):
        windows.read(whole(raster))


def test_servers_are_asked_where_the_user_says_so(place, server):
    before = len(server[1])
    with pytest.raises(RasterError, match=r"the server has no such file \(response code: 404\)"):
        all_that_we_read(place.url)
    assert len(server[1]) > before
    path, before = REQUESTS["a source streamed from a server"](place), len(server[1])
    with pytest.raises(RasterError):
        all_that_we_read(path, Limits(allow_remote=True))
    assert len(server[1]) > before


def test_what_is_inside_an_archive_names_no_other_file(place):
    with zipfile.ZipFile(place.folder / "a.zip", "w") as archive:
        archive.writestr("in.vrt", place.secret_vrt())
    path = f"/vsizip/{place.folder}/a.zip/in.vrt"
    assert b"the-secret" in all_that_rasterio_reads(path)
    for limits in (Limits(), Limits(allow_remote=True)):
        with pytest.raises(RasterError, match="not of a format that is safe to read"):
            all_that_we_read(path, limits)


# --- sizes -------------------------------------------------------------------------------------------

LARGEST = 2**31 - 1


@pytest.mark.slow
@pytest.mark.parametrize("content, sentence", [
    (claims(1_000_000, 1_000_000, 256), "1000000 x 1000000 pixels.*--max-pixels 1000000000000"),
    (claims(100_000, 100_000), "blocks of 100000 x 100000 pixels.*10.0 GB.*TILED=YES"),
    (claims(64, 64, 65_536), "blocks of 65536 x 65536 pixels"),
    (claims(LARGEST, 40, 256), "1.65e.03 GB of memory for rows of its 256 x 256 blocks"),
    (claims(LARGEST, LARGEST, 256), "damaged"),
    (claims(0, 9), "damaged"), (claims(9, 9, 16, bands=0), "damaged"),
    (f'<VRTDataset rasterXSize="{LARGEST}" rasterYSize="{LARGEST}">{band("")}</VRTDataset>', "--max-pixels"),
    ('<VRTDataset rasterXSize="9" rasterYSize="9">' + '<VRTRasterBand dataType="Byte"/>' * 66_000 + "</VRTDataset>",
     "66000 bands, more than 65535"),
    (f'<VRTDataset rasterXSize="9" rasterYSize="9">{band("") * 140_000}</VRTDataset>', "more than 65535 bands"),
    ('<VRTDataset rasterXSize="-9" rasterYSize="9"><VRTRasterBand dataType="Byte"/></VRTDataset>', "damaged"),
    (dataset(band(source("strip.tif"))), "strip.tif.* is stored in blocks of 100000 x 100000"),
])
def test_a_size_that_no_memory_holds_is_refused_from_the_header(content, sentence, place):
    place.file("strip.tif", claims(100_000, 100_000))
    start = time.perf_counter()
    with pytest.raises((RasterError, DeviceError), match=sentence) as error:
        RasterSource.open(place.file("in.tif", content))
    assert time.perf_counter() - start < 10 and "\n" not in str(error.value)


def test_many_bands_are_no_hang(place):
    path = place.file("in.tif", claims(10, 10, bands=20_000, compression=1))
    start = time.perf_counter()
    assert len(RasterSource.open(path, bands=(1, 20_000)).bands) == 2
    assert len(RasterSource.open(path).bands) == 20_000 and time.perf_counter() - start < 20


@pytest.mark.parametrize("kind", ["a TIFF in tiles with overviews", "a mosaic", "JPEG 2000", "ISIS", "HFA"])
def test_whatever_is_wrong_with_a_file_is_said_in_a_sentence(kind, place):
    content, random = Path(ORDINARY[kind](place)).read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(content)
        for position in random.integers(0, min(len(damaged), random.choice([64, 512, len(damaged)])), 4):
            damaged[position] = random.choice([0, 255, random.integers(256)])
        try:
            raster = RasterSource.open(place.file("damaged", bytes(damaged)))
            if raster.grid.height * raster.grid.width * len(raster.bands) < 1e6:
                raster.decimated()
        except RasterError as error:
            assert str(error).endswith(".") and str(error).isprintable()


def test_directories_that_go_round_end(place):
    content = bytearray(Path(place.good).read_bytes())
    first, = struct.unpack_from("<I", content, 4)
    entries, = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    assert RasterSource.open(place.file("in.tif", bytes(content))).grid.width == WIDTH


def test_the_limit_of_pixels_is_the_users(place):
    with pytest.raises(RasterError, match=f"{WIDTH} x {HEIGHT} pixels, more than 100: .*--max-pixels {WIDTH * HEIGHT}"):
        RasterSource.open(place.good, limits=Limits(max_pixels=100))
    raster = RasterSource.open(place.good, limits=Limits(max_pixels=WIDTH * HEIGHT))
    assert raster.handles.limits.max_pixels == WIDTH * HEIGHT and sum(1 for _ in raster.rows()) == 1


def test_a_sparse_raster_and_one_strip_that_is_not_compressed_open_as_before(place):
    path = place.folder / "sparse.tif"
    with rasterio.open(path, "w", driver="GTiff", width=60_000, height=60_000, count=3, dtype="uint16", tiled=True,
                       sparse_ok=True, compress="deflate"):
        pass
    assert RasterSource.open(path).grid.height == 60_000
    assert RasterSource.open(place.file("in.tif", claims(100_000, 100_000, compression=1))).block_shape == (1, 100_000)


# --- ordinary rasters ----------------------------------------------------------------------------------


def _mosaic(p, relative=1):
    where = "" if relative else f"{p.folder}/"
    parts = "".join(source(where + Path(p.tiff(f"part{k}.tif")).name, relative, more=(
        f'<SourceProperties RasterXSize="{WIDTH}" RasterYSize="{HEIGHT}" DataType="Byte" BlockXSize="{WIDTH}" '
        f'BlockYSize="{HEIGHT}"/><SrcRect xOff="0" yOff="0" xSize="{WIDTH}" ySize="{HEIGHT}"/>'
        f'<DstRect xOff="{k * WIDTH}" yOff="0" xSize="{WIDTH}" ySize="{HEIGHT}"/>')) for k in range(3))
    head = ('<SRS dataAxisToSRSAxisMapping="1,2">EPSG:32631</SRS><GeoTransform>5e5, 30, 0, 4.5e6, 0, -30</GeoTransform>'
            '<Metadata><MDI key="AREA_OR_POINT">Area</MDI></Metadata>')
    return p.vrt(f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- a mosaic --><VRTDataset rasterXSize="{3 * WIDTH}" '
                 f'rasterYSize="{HEIGHT}">{head}{band("<ColorInterp>Gray</ColorInterp>" + parts)}</VRTDataset>')


def _copy(p, name, driver, **options):
    rasterio.shutil.copy(p.good, p.folder / name, driver=driver, **options)
    return str(p.folder / name)


def _with(p, path, **sidecars):
    for ending, content in sidecars.items():
        p.file(Path(path).name + ending.replace("_", "."), content)
    return path


def _with_mask_file(p):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(p.good, "r+") as out:
        out.write_mask(np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3 > 0)
    assert Path(f"{p.good}.msk").exists()
    return p.good


def _with_overviews(p):
    path = p.tiff("large.tif", 530, 370)
    with rasterio.Env(TIFF_USE_OVR="YES"), rasterio.open(path, "r+") as out:
        out.build_overviews([2, 4])
    assert Path(f"{path}.ovr").exists()
    return path


ORDINARY = {
    "a TIFF": lambda p: p.good,
    "a TIFF in tiles with overviews": lambda p: _copy(p, "in.tif", "COG"),
    "a BigTIFF": lambda p: p.tiff("big.tif", bigtiff="yes"),
    "a big-endian TIFF": lambda p: p.tiff("in.tif", endianness="big", bands=4),
    "a TIFF under another name": lambda p: (os.rename(p.good, p.folder / "scene"), str(p.folder / "scene"))[1],
    "a TIFF with a colon in its name": lambda p: p.tiff("at 12:30.tif"),
    "a TIFF through a link": lambda p: (os.symlink("good.tif", p.folder / "link"), str(p.folder / "link"))[1],
    "a mask file": _with_mask_file,
    "overviews in a file": _with_overviews,
    "a mosaic": _mosaic,
    "a mosaic of absolute paths": lambda p: _mosaic(p, 0),
    "a mosaic under another name": lambda p: (os.rename(_mosaic(p), p.folder / "m.xml"), str(p.folder / "m.xml"))[1],
    "a VRT in another folder": lambda p: (
        (p.folder / "sub").mkdir(), p.vrt(dataset(band(source("../good.tif"))), "sub/in.vrt"))[1],
    "a VRT through a link": lambda p: (
        (p.folder / "sub").mkdir(), p.vrt(dataset(band(source("../good.tif"))), "sub/in.vrt"),
        os.symlink("sub/in.vrt", p.folder / "link.vrt"), str(p.folder / "link.vrt"))[3],
    "a VRT of a VRT": lambda p: _chain(p, 5),
    "bands side by side": lambda p: p.vrt(dataset(
        band(source("good.tif")) + band(source("good.tif", kind="ComplexSource", more=(
            "<ScaleOffset>1</ScaleOffset><ScaleRatio>0.5</ScaleRatio>"))).replace('band="1"', 'band="2"'))),
    "a mask in a VRT": lambda p: p.vrt(dataset(band(source("good.tif")) + (
        f"<MaskBand>{band(source('good.tif', kind='ComplexSource', more='<LUT>0:0,99:0,100:255,255:255</LUT>'))}"
        "</MaskBand>"))),
    "a reduced copy": lambda p: p.vrt(dataset(band(source("good.tif", more=(
        f'<SrcRect xOff="0" yOff="0" xSize="{WIDTH}" ySize="{HEIGHT}"/><DstRect xOff="0" yOff="0" xSize="19" '
        'ySize="27"/>')).replace("<SimpleSource", '<SimpleSource resampling="average"')))),
    "a pixel function of GDAL": lambda p: p.vrt(dataset(band(
        "<PixelFunctionType>mul</PixelFunctionType>" + source("good.tif") * 2, 'subClass="VRTDerivedRasterBand"'))),
    "a warped VRT": lambda p: p.vrt(warped(p.good)),
    "a processed VRT": lambda p: p.vrt(_processed(source("good.tif"))),
    "a VRT with metadata, colours and places": lambda p: p.vrt(dataset(
        '<Metadata><MDI key="NOTE">see http://example.org/a &lt;b&gt;</MDI></Metadata><Metadata domain="xml:X" '
        'format="xml"><any><thing href="http://example.org"/></any></Metadata>' + band(
            '<Description>a "b"</Description><ColorInterp>Palette</ColorInterp><ColorTable><Entry c1="1" c2="2" c3="3" '
            'c4="255"/></ColorTable><Histograms><HistItem><HistMin>0</HistMin></HistItem></Histograms>'
            "<CategoryNames><Category>sea</Category></CategoryNames>" + source("good.tif")))),
    "a VRT of a JP2": lambda p: (_copy(p, "a.jp2", "JP2OpenJPEG"), p.vrt(dataset(band(source("a.jp2")))))[1],
    "a VRT of an ISIS cube": lambda p: (
        p.tiff("a.cub", driver="ISIS3"), p.vrt(dataset(band(source("a.cub")))))[1],
    "a VRT of an HFA file": lambda p: (
        p.tiff("a.img", driver="HFA", use_spill="YES"), p.vrt(dataset(band(source("a.img")))))[1],
    "PNG": lambda p: _copy(p, "in.png", "PNG", worldfile="YES"),
    "PNG with a world file": lambda p: (
        _copy(p, "in.png", "PNG", worldfile="YES"), (p.folder / "in.png.aux.xml").unlink(),
        str(p.folder / "in.png"))[2],
    "JPEG": lambda p: _copy(p, "in.jpg", "JPEG"),
    "JPEG 2000": lambda p: _copy(p, "in.jp2", "JP2OpenJPEG"),
    "GIF": lambda p: _copy(p, "in.gif", "GIF"),
    "BMP": lambda p: _copy(p, "in.bmp", "BMP"),
    "WEBP": lambda p: p.tiff("rgb.tif", bands=3) and (rasterio.shutil.copy(
        p.folder / "rgb.tif", p.folder / "in.webp", driver="WEBP"), str(p.folder / "in.webp"))[1],
    "ENVI": lambda p: p.tiff("in.img", driver="ENVI"),
    "ENVI without an ending": lambda p: p.tiff("in", driver="ENVI"),
    "ESRI": lambda p: p.tiff("in.bil", driver="EHdr"),
    "HFA": lambda p: p.tiff("in.img", driver="HFA"),
    "HFA in two files": lambda p: p.tiff("in.img", driver="HFA", use_spill="YES"),
    "an Arc grid": lambda p: _copy(p, "in.asc", "AAIGrid"),
    "ISIS": lambda p: p.tiff("in.cub", driver="ISIS3"),
    "ISIS in two files": lambda p: p.tiff("in.lbl", driver="ISIS3", data_location="EXTERNAL"),
    "ISIS with a TIFF": lambda p: p.tiff("in.lbl", driver="ISIS3", data_location="GEOTIFF"),
    "PDS in two files": lambda p: (
        p.file("in.IMG", bytes(range(256)) * 9), p.file("in.LBL", pds("in.IMG")))[1],
    "PDS 4": lambda p: p.tiff("in.xml", driver="PDS4"),
    "VICAR": lambda p: p.tiff("in.vic", driver="VICAR"),
    "a raster in a GeoPackage": lambda p: f"GPKG:{p.tiff('in.gpkg', bands=3, driver='GPKG', raster_table='t')}:t",
    "a page of a TIFF": lambda p: f"GTIFF_DIR:1:{p.good}",
    "a file in an archive": lambda p: _zipped(p),
    "an address of a file": lambda p: f"file://{p.good}",
}


def _zipped(p):
    with zipfile.ZipFile(p.folder / "a.zip", "w") as archive:
        archive.write(p.good, "a.tif")
    return f"/vsizip/{p.folder}/a.zip/a.tif"


@pytest.mark.parametrize("kind", ORDINARY)
def test_an_ordinary_raster_is_read_as_rasterio_reads_it(kind, place):
    path = ORDINARY[kind](place)
    with rasterio.open(path) as data:
        colour = [i for i in data.indexes if data.colorinterp[i - 1].name != "alpha"]
        pixels, valid, facts = data.read(colour), data.read_masks(1) != 0, (data.transform, data.crs is None)
        small = data.read(colour, out_shape=(len(colour), HEIGHT // 5, WIDTH // 5))
    raster = RasterSource.open(path)
    rows = list(raster.rows())
    assert np.array_equal(np.concatenate([part.pixels for part in rows], 1), pixels)
    if rows[0].mask is not None:
        assert np.array_equal(np.concatenate([part.mask for part in rows], 1)[0] != 0, valid)
    assert (raster.grid.transform, raster.grid.crs is None) == facts
    with raster.windows(0) as windows:
        assert np.array_equal(windows.read(whole(raster)).pixels, pixels)
    assert raster.decimated(11).pixels.dtype == small.dtype


def whole(raster):
    return Window(0, 0, raster.grid.height, raster.grid.width)


def test_overviews_and_masks_in_files_are_used(place):
    """Not only harmless: what they say is what is read."""
    path = _with_overviews(place)
    with rasterio.open(f"{path}.ovr", "r+") as out:
        out.write(np.full((1, out.height, out.width), 7, "uint8"))
    assert (RasterSource.open(path).decimated(185).pixels == 7).all()
    assert RasterSource.open(_with_mask_file(place)).mask_kinds == ("mask",)


def test_a_system_of_another_planet_beside_the_raster_is_read(make_raster):
    assert RasterSource.open(make_raster("jupiter_graphic")).grid.latitude == "planetographic"
    assert "Jupiter" in RasterSource.open(make_raster("jupiter_custom")).grid.crs


def test_a_world_file_and_coefficients_beside_a_raster_are_read(place):
    bare = place.tiff("bare.tif", crs=None)
    place.file("bare_rpc.txt", "".join(
        f"{key}_{k}: 1\n" if "COEFF" in key else f"{key}: 1\n" for key in RPC
        for k in range(1, 21 if "COEFF" in key else 2)))
    with pytest.raises(RasterError, match="rational polynomial"):
        RasterSource.open(bare)
    place.file("bare.tfw", "2\n0\n0\n-2\n100\n200\n")
    assert RasterSource.open(bare).grid.transform == Affine(2, 0, 99, 0, -2, 201)


@pytest.mark.slow
def test_a_vrt_of_ten_thousand_files_is_looked_at_in_a_second_or_so(place):
    for k in range(10_000):
        os.link(place.good, place.folder / f"{k}.tif")
    parts = "".join(source(f"{k}.tif", more='<DstRect xOff="0" yOff="0" xSize="9" ySize="9"/>') for k in range(10_000))
    path = place.vrt(dataset(band(parts)))
    times = []
    for _ in range(3):
        start = time.process_time()
        inspect(path, Limits())
        times.append(time.process_time() - start)
    assert min(times) < 2  # 0.6 s on a machine that does nothing else
    os.unlink(place.folder / "9999.tif")
    place.file("9999.tif", "text")
    with pytest.raises(RasterError, match=r"9999\.tif"):
        inspect(path, Limits())


@pytest.mark.parametrize("numbers", [(30, 0, 5e5, 0, float("nan"), 4e6), (30, 0, 5e5, 0, -30, float("inf")),
                                     (1e300, 0, 0, 0, -30, 0), (30, 0, 0, 0, 0, 0)])
def test_a_geotransform_that_places_no_pixel_is_refused(place, numbers):
    path = place.tiff("odd.tif", transform=Affine(*numbers))
    with pytest.raises(RasterError, match="has a geotransform without an inverse or out of range"):
        RasterSource.open(path)
