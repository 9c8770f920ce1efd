"""Holds nnU-Net's network against voxfit's: `python logits.py EXPORTED.safetensors REFERENCE.safetensors`.

Builds the network that the plans.json beside EXPORTED describes, loads EXPORTED with strict=True and compares its logits
for `input` of REFERENCE with `logits` there, which voxfit made in f32. Prints the largest difference; 1e-4 or more is
exit code 1. Needs: pip install torch safetensors dynamic_network_architectures
"""
import json
import pydoc
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file


def network(plans, channels, classes):
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    arguments = dict(architecture["arch_kwargs"])
    for name in architecture["_kw_requires_import"]:
        if arguments[name] is not None:
            arguments[name] = pydoc.locate(arguments[name])
    build = pydoc.locate(architecture["network_class_name"])
    # nnU-Net's predictor builds it so; the names of heads are the same with True.
    return build(input_channels=channels, num_classes=classes, deep_supervision=False, **arguments)


def main():
    exported, reference = Path(sys.argv[1]), load_file(sys.argv[2])
    sys.path.insert(0, str(exported.parent))  # voxfit_norm.py, where the norm is group
    torch.set_num_threads(1)
    plans = json.loads((exported.parent / "plans.json").read_text())
    image, expected = reference["input"], reference["logits"]
    model = network(plans, image.shape[1], expected.shape[1])
    model.load_state_dict(load_file(exported), strict=True)
    model.eval()
    with torch.no_grad():
        found = model(image)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    difference = (found - expected).abs().max().item()
    print(f"largest difference {difference:.2e} of logits up to {expected.abs().max().item():.2f}")
    sys.exit(0 if difference < 1e-4 else 1)


if __name__ == "__main__":
    main()
