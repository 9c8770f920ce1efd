"""What benches/prepare.rs measures, nnU-Net's way with nibabel and scipy: `python prepare_peer.py DATASET SPACING`.

nnU-Net 2 reads a case, normalises it in float32, casts it to float64 and calls skimage.transform.resize(order=3,
mode='edge', anti_aliasing=False), which is scipy.ndimage.zoom(mode='nearest', grid_mode=True) with the result clipped to
the input's range; labels are resized class by class (order 1) and set where 0.5 is reached. One process, as one of its
workers is.
"""
import json
import resource
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage


def zoom(data, shape, order):
    factors = np.array(shape) / np.array(data.shape)
    return ndimage.zoom(data, factors, order=order, mode="nearest", grid_mode=True)


def main(root, spacing):
    description = json.loads((root / "dataset.json").read_text())
    started, parts = time.perf_counter(), {"read": 0.0, "normalise": 0.0, "image": 0.0, "label": 0.0}
    for entry in description["training"]:
        begun = time.perf_counter()
        image, label = nib.load(root / entry["image"]), nib.load(root / entry["label"])
        data = np.asarray(image.dataobj).astype(np.float32)
        classes = np.asarray(label.dataobj)
        read = time.perf_counter()
        if "CT" in description["modality"].values():
            foreground = data[classes > 0]
            low, high = np.percentile(foreground, [0.5, 99.5])
            np.clip(data, low, high, out=data)
            data -= foreground.mean()
            data /= max(foreground.std(), 1e-8)
        else:
            data -= data.mean()
            data /= max(data.std(), 1e-8)
        normalised = time.perf_counter()
        zooms = image.header.get_zooms()[:3]
        shape = tuple(int(round(n * float(a) / b)) for n, a, b in zip(data.shape, zooms, spacing))
        if shape != data.shape:
            low, high = data.min(), data.max()
            data = zoom(data.astype(float), shape, 3)
            np.clip(data, low, high, out=data)
            data = data.astype(np.float32)
        resampled = time.perf_counter()
        if shape != classes.shape:
            made = np.zeros(shape, dtype=classes.dtype)
            for value in np.unique(classes):
                made[zoom((classes == value).astype(float), shape, 1) >= 0.5] = value
        done = time.perf_counter()
        for name, begin, end in (("read", begun, read), ("normalise", read, normalised), ("image", normalised, resampled),
                                 ("label", resampled, done)):
            parts[name] += end - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in parts.items()))
    print(f"in all {time.perf_counter() - started:.2f} s, peak {peak} MiB")


if __name__ == "__main__":
    spacing = [float(value) for value in sys.argv[2].split(",")]
    main(Path(sys.argv[1]), spacing * 3 if len(spacing) == 1 else spacing)
