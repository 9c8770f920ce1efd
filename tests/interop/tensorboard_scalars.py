"""Holds a run's event files, read by TensorBoard itself, against its metrics.jsonl.

    python -m venv env && env/bin/pip install tensorboard
    voxfit train configs/quickstart.toml --tensorboard
    env/bin/python tests/interop/tensorboard_scalars.py runs/quickstart
"""
import json
import pathlib
import sys

import numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = pathlib.Path(sys.argv[1])
events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
events.Reload()
found = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
expected = {}
for line in (run / "metrics.jsonl").read_text().splitlines():
    line = json.loads(line)
    values = {"loss": line.get("loss"), "learning_rate": line.get("learning_rate"), "mean_dice": line.get("mean_dice"),
              "seconds_per_step": line.get("seconds"), "peak_bytes": line.get("peak_bytes")}
    values |= {f"dice/{of['class']} {of['name']}": of["dice"] for of in line.get("dice", [])}
    for tag, value in values.items():
        if value is not None:
            expected.setdefault(tag, {})[line["step"]] = float(numpy.float32(value))
for tag in sorted(expected.keys() | found.keys()):
    assert found.get(tag) == expected.get(tag), f"{tag}: TensorBoard has {found.get(tag)}, the run {expected.get(tag)}"
    print(f"{tag}: {len(expected[tag])} values, the same")
