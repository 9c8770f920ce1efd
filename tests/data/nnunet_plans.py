"""Prints what tests/nnunet_plans.rs compares with: `python nnunet_plans.py > nnunet_plans.json`.

nnU-Net's own ExperimentPlanner (pip install nnunetv2==2.8.1) plans made-up datasets for several sizes of GPU. It gets
what it reads of a dataset, dataset.json and dataset_fingerprint.json, and no image: dataset.json names the reader,
which is otherwise found by opening one. Spacings (mm) and sizes (voxels) are z, y, x and drawn with fixed seeds; what
the planner writes is in its own order of axes (transpose_forward). "training" is numTraining, more than the cases
listed, which stand for that many; only the batch size depends on it.
"""
import contextlib
import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

GIB = [2, 4, 8, 12, 24]
# Name, channels, classes with background, training cases, cases, spacing and size along z, y, x. An axis is one number,
# the (lowest, highest) of a range, the [choices] to take from, or the earlier axis that it equals.
DATASETS = [
    ("Hippocampus", ["MRI"], 3, 260, 11, (1.0, 1.0, 1.0), ((30, 40), (44, 57), (30, 41))),
    ("BrainTumour", ["FLAIR", "T1w", "T1gd", "T2w"], 4, 484, 12, (1.0, 1.0, 1.0), ((130, 145), (160, 180), (128, 147))),
    ("Liver", ["CT"], 3, 131, 12, ([0.7, 0.8, 1.0, 1.25, 2.5, 5.0], (0.6, 0.95), "y"), ((75, 840), 512, 512)),
    ("Prostate", ["T2", "ADC"], 3, 32, 8, ([3.0, 3.6, 3.6, 4.0], [0.6, 0.625, 0.625], "y"),
     ((15, 24), [320, 320, 384], "y")),
    # The coarse axis is second, and some cases are much finer along it than the median.
    ("Cardiac", ["MRI"], 4, 200, 11, ((1.2, 1.8), [5.0, 6.0, 10.0, 10.0, 10.0], "z"),
     ((200, 256), (7, 12), (170, 256))),
    ("ThickSlices", ["T1", "T2"], 2, 40, 9, (8.0, (0.8, 1.0), "y"), (12, (220, 260), (200, 240))),
    # The coarse axis is last, and not short enough for its 10th percentile to be taken.
    ("Sagittal", ["MRI"], 5, 70, 10, ((0.5, 0.7), (0.5, 0.7), (2.9, 4.1)), ((300, 420), (280, 360), (92, 130))),
    # The 10th percentile of the coarse axis is below the median of the others.
    ("MixedSlices", ["CT"], 2, 60, 12, ([0.5, 0.5, 5.0, 5.0, 6.0], (0.9, 1.1), "y"), ((28, 90), 400, 400)),
    # Each axis its own spacing, sizes not near multiples of a power of two, one axis short.
    ("Microscopy", ["raw"], 2, 15, 7, ((0.9, 1.1), (0.4, 0.5), (0.2, 0.24)), ((17, 29), (90, 350), (500, 1100))),
    ("Knee", ["MRI"], 6, 88, 10, ((0.36, 0.47), (0.36, 0.47), (0.6, 0.8)), ((370, 390), (297, 315), (140, 160))),
]


def triples(random, axes, digits):
    def value(axis, earlier):
        if isinstance(axis, str):
            return earlier["zyx".index(axis)]
        if isinstance(axis, tuple):
            return random.uniform(*axis)
        return axis[random.randint(len(axis))] if isinstance(axis, list) else axis

    triple = []
    for axis in axes:
        drawn = round(float(value(axis, triple)), digits)
        triple.append(drawn if digits else int(drawn))
    return triple


def plan(name, gib):
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    with contextlib.redirect_stdout(sys.stderr):
        ExperimentPlanner(name, gpu_memory_target_in_gb=gib, plans_name=f"plans{gib}").plan_experiment()
    plans = json.loads((Path(os.environ["nnUNet_preprocessed"]) / name / f"plans{gib}.json").read_text())
    low = plans["configurations"].get("3d_lowres")
    return {
        "gib": gib,
        "transpose_forward": plans["transpose_forward"], "transpose_backward": plans["transpose_backward"],
        **configuration(plans["configurations"]["3d_fullres"]), "low": low and configuration(low),
    }


def configuration(planned):
    network = planned["architecture"]["arch_kwargs"]
    assert network["n_stages"] == len(network["strides"]) == len(network["features_per_stage"])
    return {
        "spacing": planned["spacing"], "median": planned["median_image_size_in_voxels"],
        "patch": planned["patch_size"], "batch": planned["batch_size"],
        "strides": network["strides"], "kernels": network["kernel_sizes"], "features": network["features_per_stage"],
    }


def dataset(number, name, channels, classes, training, cases, spacing, size):
    random = np.random.RandomState(number)
    spacings = [triples(random, spacing, 3) for _ in range(cases)]
    sizes = [triples(random, size, 0) for _ in range(cases)]
    folder = f"Dataset{number:03d}_{name}"
    images = [f"case_{at:04d}.nii.gz" for at in range(len(channels))]
    description = {
        "channel_names": {str(at): channel for at, channel in enumerate(channels)},
        "labels": {"background": 0, **{f"label{at}": at for at in range(1, classes)}},
        "numTraining": training, "file_ending": ".nii.gz", "overwrite_image_reader_writer": "NibabelIO",
        "dataset": {"case": {"images": images, "label": "case.nii.gz"}},
    }
    intensities = {"max": 900.0, "mean": 100.0, "median": 90.0, "min": -100.0, "percentile_00_5": -50.0,
                   "percentile_99_5": 500.0, "std": 80.0}
    fingerprint = {
        "spacings": spacings, "shapes_after_crop": sizes, "median_relative_size_after_cropping": 1.0,
        "foreground_intensity_properties_per_channel": {str(at): intensities for at in range(len(channels))},
    }
    for variable, file, content in (("nnUNet_raw", "dataset", description),
                                    ("nnUNet_preprocessed", "dataset_fingerprint", fingerprint)):
        path = Path(os.environ[variable]) / folder
        path.mkdir(parents=True)
        (path / f"{file}.json").write_text(json.dumps(content))
    return {"name": name, "channels": len(channels), "classes": classes, "training": training,
            "spacings": spacings, "sizes": sizes, "plans": [plan(folder, gib) for gib in GIB]}


def main():
    with tempfile.TemporaryDirectory() as root:
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            os.environ[variable] = str(Path(root) / variable)
        datasets = [dataset(number, *rest) for number, rest in enumerate(DATASETS, 1)]
    made_with = f"nnunetv2 {version('nnunetv2')}, ExperimentPlanner, 3d_fullres and 3d_lowres of each plan; see nnunet_plans.py"
    print(f'{{"made_with": {json.dumps(made_with)}, "datasets": [')
    for at, entry in enumerate(datasets):
        plans = entry.pop("plans")
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entry.items()]
        print("{" + ", ".join(lines[:4]) + ",\n" + ",\n".join(lines[4:]) + ',\n"plans": [')
        print(",\n".join(json.dumps(line) for line in plans))
        print("]}" + ("," if at + 1 < len(datasets) else ""))
    print("]}")


if __name__ == "__main__":
    main()
