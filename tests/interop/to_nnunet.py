"""Makes the folder that nnU-Net's predictor loads: `python to_nnunet.py EXPORTED.safetensors RESULTS`.

EXPORTED is what `voxfit export RUN -o EXPORTED.safetensors --layout nnunet` wrote, with plans.json and dataset.json beside
it. Several files (the folds of one run) become several folds. Prints the model's folder, which goes to
nnUNetPredictor.initialize_from_trained_model_folder or, below nnUNet_results, to nnUNetv2_predict -d 0 -c 3d_fullres.
Needs: pip install torch safetensors
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file


def main():
    *exported, results = map(Path, sys.argv[1:])
    beside = exported[0].parent
    plans, dataset = (json.loads((beside / f"{name}.json").read_text()) for name in ("plans", "dataset"))
    folder = results / plans["dataset_name"] / f"nnUNetTrainer__{plans['plans_name']}__3d_fullres"
    for fold, weights in enumerate(exported):
        (folder / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
        torch.save({
            "network_weights": load_file(weights),
            "trainer_name": "nnUNetTrainer",
            "init_args": {"plans": plans, "configuration": "3d_fullres", "fold": fold, "dataset_json": dataset},
            "inference_allowed_mirroring_axes": tuple(plans["inference_allowed_mirroring_axes"]) or None,
            "optimizer_state": None, "grad_scaler_state": None, "logging": None, "_best_ema": None, "current_epoch": 0,
        }, folder / f"fold_{fold}" / "checkpoint_final.pth")
    for name in ("plans.json", "dataset.json", "voxfit_norm.py"):
        if (beside / name).exists():
            shutil.copy(beside / name, folder / name)
    print(folder)


if __name__ == "__main__":
    main()
