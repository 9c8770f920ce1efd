"""Prints what tests/resampling.rs compares with: `python resampling.py > resampling.json` (scipy 1.17.1, numpy 2.4.6).

Images: scipy.ndimage.zoom(order=3, mode='nearest', grid_mode=True) clipped to the input's range, as skimage's resize calls
it for nnU-Net; with a coarse axis, each slice so, and then the nearest slice (map_coordinates, order 0, mode 'nearest').
Labels: nnU-Net's, each label's mask linearly (and nearest across), set where 0.5 is reached, labels ascending. Shapes are
z, y, x and drawn with a fixed seed, after some of each kind by hand. Sizes: np.round(n * s / t), halves to even.
"""
import json

import numpy as np
from scipy import ndimage


def grid(shape):
    return np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")


def volume(shape):
    z, y, x = grid(shape)
    return ((x * 7919 + y * 104729 + z * 1299709) % 1000).astype(float)


def label_map(shape):
    z, y, x = grid(shape)
    return (x // 3 + y // 2 + z * z) % 5


def zoom(data, to, order):
    factors = np.array(to) / np.array(data.shape)
    return ndimage.zoom(data, factors, order=order, mode="nearest", grid_mode=True)


def across(data, axis, n):
    if data.shape[axis] == n:
        return data
    at = (np.arange(n) + 0.5) * data.shape[axis] / n - 0.5
    shape = list(data.shape)
    shape[axis] = n
    places = [np.broadcast_to(np.arange(m).reshape([-1 if a == b else 1 for b in range(3)]), shape)
              for a, m in enumerate(shape)]
    places[axis] = np.broadcast_to(at.reshape([-1 if axis == b else 1 for b in range(3)]), shape)
    return ndimage.map_coordinates(data, places, order=0, mode="nearest")


def slices(data, to, axis, each):
    """Each slice of `data` across `axis` in its plane, then the nearest slice."""
    plane = [n for a, n in enumerate(to) if a != axis]
    made = [each(np.take(data, k, axis), plane) for k in range(data.shape[axis])]
    return across(np.stack(made, axis), axis, to[axis])


def cubic(data, to):
    return data if list(data.shape) == list(to) else np.clip(zoom(data, to, 3), data.min(), data.max())


def image(data, to, axis):
    return cubic(data, to) if axis is None else slices(data, to, axis, cubic)


def labels(data, to, axis):
    out = np.zeros(to, dtype=int)
    mask = lambda mask, to: zoom(mask.astype(float), to, 1)
    for value in np.unique(data):
        share = mask(data == value, to) if axis is None else slices((data == value).astype(float), to, axis, mask)
        out[share >= 0.5] = value
    return out


def main():
    shapes = [
        ([7, 5, 6], [7, 5, 6], None), ([1, 1, 1], [1, 1, 1], None), ([1, 1, 1], [3, 2, 5], None),
        ([1, 9, 1], [4, 3, 2], None), ([6, 1, 8], [2, 1, 17], None), ([9, 8, 7], [1, 1, 1], None),
        ([2, 2, 2], [7, 7, 7], None), ([13, 11, 17], [26, 22, 34], None), ([20, 18, 22], [10, 9, 11], None),
        ([31, 29, 37], [17, 40, 23], None), ([40, 33, 35], [9, 100, 36], None), ([5, 40, 33], [31, 64, 17], None),
        ([4, 20, 21], [4, 31, 17], 0), ([4, 20, 21], [13, 20, 21], 0), ([12, 20, 21], [5, 13, 40], 0),
        ([1, 9, 8], [3, 12, 7], 0), ([9, 4, 20], [14, 11, 13], 1), ([20, 21, 5], [13, 30, 17], 2), ([20, 21, 5], [13, 30, 2], 2),
    ]
    random = np.random.RandomState(20)
    for number in range(24):
        size = [int(n) for n in random.randint(1, 24, 3)]
        to = [int(max(1, round(n * random.uniform(0.3, 3)))) for n in size]
        shapes.append((size, to, None if number % 3 else number // 3 % 3))
    cases = []
    for size, to, axis in shapes:
        made, classes = image(volume(size), to, axis), labels(label_map(size), to, axis)
        weights = np.arange(made.size) % 97
        at = (np.arange(8) * 7919) % made.size
        cases.append({
            "from": size, "to": to, "separate": axis,
            "sample": [round(float(v), 6) for v in made.ravel()[at]],
            "sum": float(made.sum()), "weighted": float((made.ravel() * weights).sum()),
            "counts": np.bincount(classes.ravel(), minlength=5).tolist(),
            "labels_weighted": int((classes.ravel() * weights).sum()),
        })
    sizes = []
    for number in range(60):
        n = int(random.randint(1, 600))
        s, t = (float(v) for v in random.choice([0.5, 0.6, 0.75, 0.8, 0.9375, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0], 2))
        sizes.append([n, s, t, int(max(np.round(s / t * n), 1))])
    print('{"images": [\n' + ",\n".join(map(json.dumps, cases)) + '\n],\n"sizes": ' + json.dumps(sizes) + "}")


if __name__ == "__main__":
    main()
