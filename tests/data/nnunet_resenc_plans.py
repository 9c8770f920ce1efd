"""Prints what tests/nnunet_plans.rs compares the residual encoder's plans with:
`python nnunet_resenc_plans.py > nnunet_resenc_plans.json`, in the folder of nnunet_plans.py.

The same made-up datasets, planned by nnU-Net's nnUNetPlannerResEncM (pip install nnunetv2==2.8.1).
"""
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

import nnunet_plans


def plan(name, gib):
    from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
        nnUNetPlannerResEncM,
    )

    with contextlib.redirect_stdout(sys.stderr):
        nnUNetPlannerResEncM(name, gpu_memory_target_in_gb=gib, plans_name=f"plans{gib}").plan_experiment()
    plans = json.loads((Path(os.environ["nnUNet_preprocessed"]) / name / f"plans{gib}.json").read_text())
    full = plans["configurations"]["3d_fullres"]
    network = full["architecture"]["arch_kwargs"]
    return {
        "gib": gib,
        "transpose_forward": plans["transpose_forward"], "transpose_backward": plans["transpose_backward"],
        "spacing": full["spacing"], "median": full["median_image_size_in_voxels"], "patch": full["patch_size"],
        "strides": network["strides"], "kernels": network["kernel_sizes"], "features": network["features_per_stage"],
        "blocks": network["n_blocks_per_stage"], "decoder_convolutions": network["n_conv_per_stage_decoder"],
    }


nnunet_plans.plan = plan
with tempfile.TemporaryDirectory() as root:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[variable] = str(Path(root) / variable)
    found = {}
    for number, rest in enumerate(nnunet_plans.DATASETS, 1):
        entry = nnunet_plans.dataset(number, *rest)
        found[entry["name"]] = entry["plans"]
print("{")
for at, (name, plans) in enumerate(found.items()):
    print(f"{json.dumps(name)}: [\n" + ",\n".join(map(json.dumps, plans)) + "]" + ("," if at + 1 < len(found) else ""))
print("}")
