"""Writes tests/data/nnunet_checkpoint.pth and its values: `python nnunet_checkpoint.py PLANS.json DATASET.json OUT.pth`.

nnU-Net's own trainer (pip install nnunetv2==2.8.1) makes the network of a plans.json, takes one step on noise, so that
the optimizer has a state, notes it in its log, and saves as it does at the end of a training. Beside OUT.pth the state
dict goes into OUT.safetensors, for comparison. The plans for tests/data were those of a network of two stages on the
phantom with two classes (voxfit export --layout nnunet): patch 8 x 8 x 8, features 2 and 4, instance norm.
"""
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["nnUNet_compile"] = "false"
for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[variable] = tempfile.mkdtemp()

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from safetensors.torch import save_file


def main():
    torch.manual_seed(1)
    plans, dataset = (json.loads(Path(path).read_text()) for path in sys.argv[1:3])
    sys.path.insert(0, str(Path(sys.argv[1]).parent))
    plans["continue_training"] = False  # as nnUNetv2_train gives it
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, dataset, device=torch.device("cpu"))
    # It looks what its prepared cases end in.
    prepared = Path(trainer.preprocessed_dataset_folder)
    prepared.mkdir(parents=True)
    (prepared / "case.b2nd").touch()
    trainer.initialize()
    patch = plans["configurations"]["3d_fullres"]["patch_size"]
    channels = len(dataset["channel_names"])
    outputs = trainer.network(torch.randn(2, channels, *patch))
    sum(output.square().mean() for output in outputs).backward()
    trainer.optimizer.step()
    for key, value in (("mean_fg_dice", np.float64(0.5)), ("ema_fg_dice", np.float64(0.5)),
                       ("dice_per_class_or_region", [np.float64(0.4), np.float64(0.6)]), ("train_losses", -0.3),
                       ("val_losses", np.float32(-0.2)), ("lrs", 0.01), ("epoch_start_timestamps", 1.5),
                       ("epoch_end_timestamps", 2.5)):
        trainer.logger.log(key, value, 0)
    trainer._best_ema = np.float64(0.5)
    trainer.save_checkpoint(sys.argv[3])
    state = {name: tensor.clone().contiguous() for name, tensor in trainer.network.state_dict().items()}
    save_file(state, str(Path(sys.argv[3]).with_suffix(".safetensors")))


if __name__ == "__main__":
    main()
