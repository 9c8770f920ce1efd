"""Holds nnU-Net's predictor against voxfit's: `python predict.py MODEL OURS IMAGE... [--mirror]`.

MODEL is a folder of to_nnunet.py, OURS the folder of label maps that voxfit predicted for the images (with --tta where
--mirror is given). Prints the share of voxels with the same label; 99.9 % or less in any case is exit code 1.
Needs: pip install nnunetv2==2.8.1
"""
import os
import sys
import tempfile
from pathlib import Path

for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(variable, tempfile.gettempdir())

import nibabel
import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


def main():
    mirror = "--mirror" in sys.argv
    model, ours, *images = [argument for argument in sys.argv[1:] if argument != "--mirror"]
    sys.path.insert(0, model)  # voxfit_norm.py, where the norm is group
    torch.set_num_threads(2)
    predictor = nnUNetPredictor(tile_step_size=0.5, use_gaussian=True, use_mirroring=mirror,
                                perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(model, None, "checkpoint_final.pth")
    worst = 1.0
    with tempfile.TemporaryDirectory() as theirs:
        names = [Path(image).name.removesuffix(".nii.gz") for image in images]
        targets = [str(Path(theirs) / name) for name in names]
        predictor.predict_from_files_sequential([[image] for image in images], targets, overwrite=True)
        for name, target in zip(names, targets):
            a, b = nibabel.load(f"{target}.nii.gz"), nibabel.load(Path(ours) / f"{name}.nii.gz")
            assert np.allclose(a.affine, b.affine, atol=1e-4), (a.affine, b.affine)
            a, b = np.asarray(a.dataobj), np.asarray(b.dataobj)
            assert a.shape == b.shape, (a.shape, b.shape)
            same, found = (a == b).mean(), np.count_nonzero(b)
            worst = min(worst, same)
            print(f"{name}: {100 * same:.4f} % of {a.size} voxels the same ({np.count_nonzero(a != b)} differ), "
                  f"{found} labelled in all of {sorted(set(b.ravel().tolist()))}")
    print(f"least {100 * worst:.4f} %")
    sys.exit(0 if worst > 0.999 else 1)


if __name__ == "__main__":
    main()
