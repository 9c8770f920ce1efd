"""Prints what tests/losses.rs compares with: `python losses.py losses.rs`, in the folder of reference.py.

The losses that see more than one sample, and regions, in float64 on the network of reference.py with group norm, three
samples of which some parts are labelled 7 and ignored: nnU-Net's DC_and_CE_loss with batch_dice, and its
DC_and_BCE_loss (sigmoid, Dice over all regions) without and with batch_dice, for the regions {1, 2}, {2}, {1}.
"""
import sys

import torch
from reference import NORMS, SIZE, build, figures, fill, images, labels

COUNT, IGNORE, REGIONS = 3, 7, [[1, 2], [2], [1]]


def partly_labelled():
    found = labels(COUNT)[:, 0].clone()
    n, z, y, x = torch.meshgrid(*[torch.arange(size) for size in (COUNT, *SIZE)], indexing="ij")
    found[(n == 3) | (x >= 16 - 3 * n) | ((z + y) % 5 < n % 3)] = IGNORE
    return found


def dice(p, target, mask, whole_batch):
    axes = (0, 2, 3, 4) if whole_batch else (2, 3, 4)
    intersection = (p * target * mask).sum(axes)
    both = (p * mask).sum(axes) + (target * mask).sum(axes)
    return (2 * intersection + 1e-5) / (both + 1e-5)


def loss_of(outputs, target, regions, whole_batch):
    total = 0
    for weight, out in zip([2 / 3, 1 / 3], outputs):
        stride = [big // small for big, small in zip(SIZE, out.shape[2:])]
        small = target[:, :: stride[0], :: stride[1], :: stride[2]]
        mask = (small != IGNORE)[:, None].double()
        if regions:
            hit = torch.stack([sum(small == value for value in values) for values in REGIONS], 1).double()
            entropy = torch.nn.functional.binary_cross_entropy_with_logits(out, hit, reduction="none")
            entropy = (entropy * mask).sum() / (mask.sum() * len(REGIONS))
            scores = dice(out.sigmoid(), hit, mask, whole_batch)
        else:
            entropy = torch.nn.functional.cross_entropy(out, small, ignore_index=IGNORE)
            onehot = torch.stack([small == value for value in range(3)], 1).double()
            scores = dice(out.softmax(1), onehot, mask, whole_batch)[..., 1:]
        total = total + weight * (entropy - scores.mean())
    return total


def main():
    torch.set_num_threads(1)
    lines = ["//! Printed by `losses.py` beside this file.", "use super::Reference;", ""]
    for name, regions, whole_batch in [("BATCH_DICE", False, True), ("REGIONS", True, False),
                                       ("REGIONS_BATCH_DICE", True, True)]:
        model = build(NORMS["group"])
        parameters = fill(model)
        loss = loss_of(model(images(COUNT))[:2], partly_labelled(), regions, whole_batch)
        loss.backward()
        lines += [f"pub const {name}: Reference = Reference {{", f"    loss: {loss.item():.9e},", "    gradients: &["]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        lines += [f"        {figures(gradient)}," for gradient in gradients] + ["    ],", "};", ""]
    with open(sys.argv[1], "w") as file:
        file.write("\n".join(lines))


main()
