"""Odd volumes and what nibabel reads from them: `python formats.py make > formats.json` (nibabel 5.4.2, numpy 2.4.6).

`python formats.py check FOLDER` looks with nibabel at what `VOXFIT_FORMATS_KEEP=FOLDER cargo test --release --test formats`
left there: every label map has to have the shape and, bit for bit, the affine that nibabel reads from its input, and its
voxels have to be numbered along R, A, S.

Per case: the files (hexadecimal digits of their gzip), the one that is named, and either what nibabel reads (affine and
values after `as_closest_canonical`, x fastest) or who refuses it. "by" says where it is not nibabel's reading of
these very files.
"""
import gzip
import io
import itertools
import json
import struct
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

A = np.array([[0, 0, -3.0, 40], [-1.5, 0, 0, 10], [0, 2, 0, -7], [0, 0, 0, 1]])
PLAIN = np.diag([1.5, 2.0, 3.0, 1.0]) + np.array([[0, 0, 0, -20], [0, 0, 0, 11], [0, 0, 0, 5], [0, 0, 0, 0]])


def vals(shape):
    shape3 = (tuple(shape) + (1, 1, 1))[:3]
    i, j, k = np.meshgrid(*[np.arange(n) for n in shape3], indexing="ij")
    return ((i * 7919 + j * 104729 + k * 1299709) % 1000).reshape(shape)


def image(kind=nib.Nifti1Image, shape=(4, 3, 2), dtype=np.int16, affine=A, order="<", data=None):
    data = vals(shape) if data is None else data
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    made = kind(data.astype(dtype), affine, header)
    made.header.set_xyzt_units("mm")
    made.set_sform(affine, 1)
    made.set_qform(affine, 1, strip_shears=True)
    return made


def raw(made):
    """An image as the bytes of its one file, or of header and voxels."""
    files = {name: nib.FileHolder(fileobj=io.BytesIO()) for name, _ in made.files_types}
    made.to_file_map(files)
    names = ["header", "image"] if "header" in files else ["image"]
    return [files[name].fileobj.getvalue() for name in names]


def patched(data, *changes, order="<"):
    data = bytearray(data)
    for at, form, *values in changes:
        struct.pack_into(order + form, data, at, *values)
    return bytes(data)


def single(*changes, name="case.nii", **arguments):
    return {name: patched(raw(image(**arguments))[0], *changes, order=arguments.get("order", "<"))}


def pair(*changes, kind=nib.Nifti1Pair, pack=False, gap=b"", **arguments):
    header, voxels = raw(image(kind=kind, **arguments))
    header = patched(header, *changes, order=arguments.get("order", "<"))
    if pack:
        return {"case.hdr.gz": gzip.compress(header, mtime=0), "case.img.gz": gzip.compress(gap + voxels, mtime=0)}
    return {"case.hdr": header, "case.img": gap + voxels}


# Positions in a NIfTI-1 header.
PIXDIM, OFFSET, SLOPE, QCODE, SCODE, QUATERN, MAGIC = 76, 108, 112, 252, 254, 256, 344
NAN = float("nan")


def rotation(x, y, z):
    x, y, z = np.deg2rad([x, y, z])
    rx = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    rz = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return rx @ ry @ rz


def affine_of(matrix, origin=(12.5, -33.0, 7.25)):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, origin
    return affine.astype(np.float32).astype(float)


def with_extension():
    made = image()
    made.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"an extension of some bytes"))
    return {"case.nii": raw(made)[0]}


def gapped(gap):
    data = patched(raw(image())[0], (OFFSET, "f", 352.0 + len(gap)))
    return {"case.nii": data[:352] + gap + data[352:]}


def cases():
    whole = raw(image())[0]
    oblique = affine_of(rotation(30, -50, 35) @ np.diag([-0.8, 1.2, 5]))
    # A CT whose gantry was tilted by 20 degrees: slices are pushed along y, not turned.
    tilted = affine_of(np.array([[-0.9, 0, 0], [0, -0.9, 5 * np.tan(np.deg2rad(20))], [0, 0, 5]]))
    yield "2D", single(shape=(4, 3), affine=PLAIN)
    yield "one slice", single(shape=(4, 3, 1))
    yield "one slice across x", single(shape=(1, 4, 3))
    yield "one row of voxels", single(shape=(1, 1, 5))
    yield "one voxel", single(shape=(1, 1, 1))
    yield "4D with one frame", single(shape=(4, 3, 2, 1))
    yield "5D with one frame", single(shape=(4, 3, 2, 1, 1))
    yield "big-endian", single(order=">")
    yield "big-endian NIfTI-2", single(order=">", kind=nib.Nifti2Image, dtype=np.float64)
    yield "NIfTI-2", single(kind=nib.Nifti2Image)
    yield "pair", pair()
    yield "packed pair", pair(pack=True)
    yield "big-endian pair", pair(order=">")
    yield "NIfTI-2 pair", pair(kind=nib.Nifti2Pair)
    yield "pair with an offset", pair((OFFSET, "f", 16.0), gap=b"\xaa" * 16)
    for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"):
        yield kind, single(dtype=kind, data=(vals((4, 3, 2)) % 100 - (50 if kind[0] in "if" else 0)))
    yield "slope and intercept", single((SLOPE, "ff", 2.0, -1024.0))
    yield "slope 0", single((SLOPE, "ff", 0.0, 7.0))
    yield "slope NaN", single((SLOPE, "ff", NAN, NAN))
    yield "slope infinite", single((SLOPE, "ff", float("inf"), 0.0))
    yield "intercept NaN", single((SLOPE, "ff", 2.0, NAN))
    yield "no qform", single((QCODE, "h", 0), (QUATERN, "6f", *[0.0] * 6), affine=oblique)
    yield "no sform", single((SCODE, "h", 0), (QUATERN + 24, "12f", *[0.0] * 12), affine=oblique)
    yield "sform and qform differ", single((QUATERN, "6f", 0, 0, 0, 1, 2, 3), affine=oblique)
    yield "neither sform nor qform", single((QCODE, "h", 0), (SCODE, "h", 0), affine=PLAIN)
    yield "oblique", single(affine=oblique)
    yield "sheared", single(affine=tilted)
    yield "flat sform", single((QUATERN + 24, "12f", 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0))
    yield "qfac -1", single((PIXDIM, "f", -1.0), (SCODE, "h", 0), affine=PLAIN)
    yield "qfac 0", single((PIXDIM, "f", 0.0), (SCODE, "h", 0), affine=PLAIN)
    yield "gzip named .nii", {"case.nii": gzip.compress(whole, mtime=0)}
    yield "plain named .nii.gz", {"case.nii.gz": whole}
    yield "gzip in members", {"case.nii.gz": b"".join(gzip.compress(part, mtime=0)
                                                      for part in (whole[:100], whole[100:371], whole[371:]))}
    yield "trailing bytes", {"case.nii": whole + b"\xff" * 100}
    yield "trailing bytes, packed", {"case.nii.gz": gzip.compress(whole + b"\xff" * 100, mtime=0)}
    yield "trailing bytes after gzip", {"case.nii.gz": gzip.compress(whole, mtime=0) + b"\0" * 512}
    yield "vox_offset 0", single((OFFSET, "f", 0.0))
    yield "vox_offset 368", gapped(b"\xaa" * 16)
    yield "vox_offset 357", gapped(b"\xaa" * 5)
    yield "vox_offset 348", single((OFFSET, "f", 348.0))
    yield "header extension", with_extension()
    yield "name beyond ASCII", {"Größe 体积 ñ.nii.gz": gzip.compress(whole, mtime=0)}
    analyze = nib.AnalyzeImage(vals((4, 3, 2)).astype(np.int16), np.diag([-1.5, 2, 3, 1]))
    yield "ANALYZE 7.5", dict(zip(("case.hdr", "case.img"), raw(analyze)))
    yield "pair's header in .nii", single((MAGIC, "4s", b"ni1\0"))
    yield "whole file named .hdr", {"case.hdr": whole, "case.img": whole[352:]}
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.zeros((3, 3))
            for axis in range(3):
                matrix[order[axis], axis] = signs[axis] * (1.5, 2.0, 3.0)[axis]
            affine = affine_of(matrix)
            yield "orientation " + "".join(nib.aff2axcodes(affine)), single(affine=affine)


def standard(files):
    """Method 1 of the standard, which nibabel does not follow: pixdim alone, the first voxel at the origin."""
    header = nib.Nifti1Header.from_fileobj(io.BytesIO(files["case.nii"]))
    return np.diag([*header.get_zooms()[:3], 1.0])


# nibabel goes by names, and takes an offset of 0 as it stands: what it reads of the same volume without the oddity.
ELSEWHERE = {"gzip named .nii", "plain named .nii.gz", "vox_offset 0"}


def load(folder, name, files):
    if name in ELSEWHERE:
        name, files = "NIfTI-1", single()
    for file, content in files.items():
        (folder / file).write_bytes(content)
    loaded = nib.load(folder / opened(files))
    data = np.asarray(loaded.dataobj)
    return loaded.affine, loaded.shape, data.reshape((data.shape + (1, 1, 1))[:3])


def along_ras(data, affine):
    canonical = nib.as_closest_canonical(nib.Nifti1Image(data, affine))
    return canonical.affine, canonical.shape, np.asarray(canonical.dataobj).transpose(2, 1, 0).ravel()


def read(folder, name, files):
    affine, _, data = load(folder, name, files)
    by = "nibabel, of the plain file" if name in ELSEWHERE else "nibabel"
    if name == "neither sform nor qform":
        affine, by = standard(files), "the standard"
    affine, size, values = along_ras(data.astype(float), affine)
    return {"by": by, "affine": affine[:3].tolist(), "size": list(size), "values": values.tolist()}


def opened(files):
    return next(iter(files))


def make():
    made = []
    for name, files in cases():
        entry = {"name": name, "files": {}, "open": opened(files)}
        with tempfile.TemporaryDirectory() as folder:
            try:
                entry |= read(Path(folder), name, files)
            except Exception as error:
                entry["nibabel_says"] = f"{type(error).__name__}: {error}".split("\n")[0].replace(folder, "")
        for file, content in files.items():
            entry["files"][file] = gzip.compress(content, mtime=0).hex()
        made.append(entry)
    print("[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in made) + "\n]")


def check(root):
    count = 0
    for number, (name, files) in enumerate(cases()):
        out = root / f"{number}.nii.gz"
        if not out.exists():
            print(f"refused: {name}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            affine, shape, _ = load(Path(folder), name, files)
        labels = nib.load(out)
        assert affine.tobytes() == labels.affine.tobytes(), name
        assert shape == labels.shape, name
        data = np.asarray(labels.dataobj)
        data = data.reshape((data.shape + (1, 1, 1))[:3])
        _, _, numbers = along_ras(data, np.eye(4) if name == "neither sform nor qform" else affine)
        assert np.array_equal(numbers, np.arange(data.size)), name
        count += 1
    print(f"{count} label maps: shape and affine are the input's, bit for bit, and every voxel is in its place")


if __name__ == "__main__":
    make() if sys.argv[1:] == ["make"] else check(Path(sys.argv[2]))
