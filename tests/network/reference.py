"""Prints what tests/network.rs compares with: `python reference.py reference.rs`.

nnU-Net's PlainConvUNet (pip install torch dynamic_network_architectures) in float64, with parameters, images and
labels from formulas that tests/small_net/mod.rs has too. Per tensor: its norm, and its product with sin(0.9 i).
"""
import math
import sys

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet

FEATURES, KERNELS = [4, 8, 12, 12], [[1, 3, 3], [3, 3, 3], [3, 1, 3], [3, 3, 3]]
STRIDES, SIZE = [[1, 1, 1], [2, 2, 2], [1, 2, 2], [2, 1, 2]], (8, 12, 16)
NORMS = {
    "instance": torch.nn.InstanceNorm3d,
    "group": lambda channels, **keys: torch.nn.GroupNorm(2, channels, **keys),
    "batch": torch.nn.BatchNorm3d,
}


def build(norm, **more):
    return PlainConvUNet(2, 4, FEATURES, torch.nn.Conv3d, KERNELS, STRIDES, [2] * 4, 3, [2] * 3, conv_bias=True,
                         norm_op=norm, norm_op_kwargs={"eps": 1e-5, "affine": True, **more},
                         nonlin=torch.nn.LeakyReLU, nonlin_kwargs={"negative_slope": 0.01},
                         deep_supervision=True).double()


def order():
    """torch's names in voxfit's order: encoder; per level, deepest first, transposed convolution, blocks, head."""
    def block(at):
        return [f"{at}.convs.{j}.{k}" for j in (0, 1) for k in ("conv.weight", "conv.bias", "norm.weight", "norm.bias")]
    names = [name for i in range(4) for name in block(f"encoder.stages.{i}.0")]
    for k in range(3):
        names += [f"decoder.transpconvs.{k}.weight", f"decoder.transpconvs.{k}.bias"]
        names += block(f"decoder.stages.{k}")
        names += [f"decoder.seg_layers.{k}.weight", f"decoder.seg_layers.{k}.bias"]
    return names


def fill(model):
    found = dict(model.named_parameters())
    assert sorted(found) == sorted(order())
    for number, name in enumerate(order()):
        tensor = found[name]
        wave = torch.sin(12.9898 * torch.arange(tensor.numel(), dtype=torch.float64) + 0.7 * number)
        if tensor.dim() == 5:
            fan_in = (tensor[:, 0] if "transp" in name else tensor[0]).numel()
            wave = 2 * wave / math.sqrt(fan_in)
        else:
            wave = 1 + 0.2 * wave if name.endswith("norm.weight") else 0.1 * wave
        tensor.data.copy_(wave.float().double().view_as(tensor))
    return [found[name] for name in order()]


def images(count):
    i = torch.arange(count * 2 * math.prod(SIZE), dtype=torch.float64)
    return (torch.sin(0.37 * i) + 0.5 * torch.cos(0.011 * i)).float().double().view(count, 2, *SIZE)


def labels(count):
    n, z, y, x = torch.meshgrid(*[torch.arange(size) for size in (count, *SIZE)], indexing="ij")
    return ((n + z // 3 + y // 4 + x // 5) % 3)[:, None]


def loss_of(outputs, target):
    total, weights = 0, [0.5**i for i in range(len(outputs) - 1)]  # the lowest head counts nothing
    for weight, out in zip(weights, outputs):
        small = torch.nn.functional.interpolate(target.double(), out.shape[2:], mode="nearest").long()
        entropy = torch.nn.functional.cross_entropy(out, small[:, 0])
        p = out.softmax(1)
        onehot = torch.zeros_like(p).scatter_(1, small, 1)
        intersection, both = (p * onehot).sum((2, 3, 4)), p.sum((2, 3, 4)) + onehot.sum((2, 3, 4))
        dice = ((2 * intersection + 1e-5) / (both + 1e-5))[:, 1:].mean()
        total = total + weight / sum(weights) * (entropy - dice)
    return total


def figures(tensor):
    wave = torch.sin(0.9 * torch.arange(tensor.numel(), dtype=torch.float64))
    return f"({tensor.norm().item():.9e}, {(tensor.flatten() * wave).sum().item():.9e})"


def main():
    torch.set_num_threads(1)
    lines = ["//! Printed by `reference.py` beside this file.", "use super::Reference;", ""]
    for name, norm in NORMS.items():
        model = build(norm)
        parameters = fill(model)
        outputs = model(images(2))
        loss = loss_of(outputs, labels(2))
        loss.backward()
        lines += [f"pub const {name.upper()}: Reference = Reference {{", f"    loss: {loss.item():.9e},"]
        lines += [f"    heads: [{', '.join(map(figures, outputs[:2]))}],"]
        lines += [f"    logits: {[float(f'{v:.9e}') for v in outputs[0][1, 2, 3, 4, 5:9]]},", "    gradients: &["]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        lines += [f"        {figures(gradient)}," for gradient in gradients] + ["    ],", "};", ""]
    # Batch norm's memory after one step of the micro-batches 0..2 and 2..3: momentum None is their plain mean.
    model = build(NORMS["batch"], momentum=None)
    fill(model)
    lines += ["pub const RUNNING: &[(f64, f64)] = &["]
    with torch.no_grad():
        model(images(3)[:2])
        model(images(3)[2:])
        buffers = dict(model.named_buffers())
        for name in order():
            if name.endswith("norm.weight"):
                mean, variance = (buffers[name[:-6] + kind] for kind in ("running_mean", "running_var"))
                mean.mul_(0.1)
                variance.mul_(0.1).add_(0.9)
                lines += [f"    {figures(mean)},", f"    {figures(variance)},"]
        model.eval()
        lines += ["];", "", f"pub const REMEMBERED: (f64, f64) = {figures(model(images(1))[0])};"]
    with open(sys.argv[1], "w") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
