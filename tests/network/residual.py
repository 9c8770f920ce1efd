"""Prints what tests/residual.rs compares with: `python residual.py residual.rs`, in the folder of reference.py.

nnU-Net's ResidualEncoderUNet in float64 with the blocks of its presets, on the samples and with the parameters of
reference.py. Its last two stages have as many channels as each other, so that one block only averages.
"""
import sys

import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from reference import FEATURES, KERNELS, NORMS, STRIDES, figures, images, labels, loss_of
import reference

BLOCKS = [1, 3, 4, 6]


def build(norm):
    return ResidualEncoderUNet(2, 4, FEATURES, torch.nn.Conv3d, KERNELS, STRIDES, BLOCKS, 3, [1] * 3, conv_bias=True,
                               norm_op=norm, norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=torch.nn.LeakyReLU,
                               nonlin_kwargs={"negative_slope": 0.01}, deep_supervision=True).double()


def order(model):
    """torch's names in voxfit's order: in front; per block both convolutions and what is beside; the decoder."""
    found = dict(model.named_parameters())
    kinds = ("conv.weight", "conv.bias", "norm.weight", "norm.bias")
    names = [f"encoder.stem.convs.0.{kind}" for kind in kinds]
    for stage, blocks in enumerate(BLOCKS):
        for block in range(blocks):
            at = f"encoder.stages.{stage}.blocks.{block}"
            names += [f"{at}.conv{i}.{kind}" for i in (1, 2) for kind in kinds]
            names += [name for k in (0, 1) for kind in kinds if (name := f"{at}.skip.{k}.{kind}") in found]
    for k in range(3):
        names += [f"decoder.transpconvs.{k}.weight", f"decoder.transpconvs.{k}.bias"]
        names += [f"decoder.stages.{k}.convs.0.{kind}" for kind in kinds]
        names += [f"decoder.seg_layers.{k}.weight", f"decoder.seg_layers.{k}.bias"]
    return [name for name in names if name in found]


def main():
    torch.set_num_threads(1)
    lines = ["//! Printed by `residual.py` beside this file.", "use super::Reference;", ""]
    for name, norm in NORMS.items():
        model = build(norm)
        # The decoder holds the encoder too, so names are found twice; the same tensors are named once.
        model.decoder.encoder = torch.nn.Identity()
        reference.order = lambda model=model: order(model)
        parameters = reference.fill(model)
        skips = model.encoder(images(2))
        outputs = model.decoder(skips)
        loss = loss_of(outputs, labels(2))
        loss.backward()
        lines += [f"pub const {name.upper()}: Reference = Reference {{", f"    loss: {loss.item():.9e},"]
        lines += [f"    heads: [{', '.join(map(figures, outputs[:2]))}],", "    gradients: &["]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        lines += [f"        {figures(gradient)}," for gradient in gradients] + ["    ],", "};", ""]
    with open(sys.argv[1], "w") as file:
        file.write("\n".join(lines))


main()
