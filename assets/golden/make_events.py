"""events.out.tfevents.golden: a few events by TensorBoard's own writer (pip install tensorboard==2.21.0)."""

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

TIME = 1_764_000_000.25


def scalars(offset, step, **values):
    tags = {
        "std": "weight_std/lm_head.weight",
        "ratio": "weight_update_ratio/lm_head.weight",
        "absmax": "residual_stream_absmax/0",
        "median": "residual_stream_median/0",
        "kurtosis": "residual_stream_kurtosis/0",
    }
    values = [Summary.Value(tag=tags.get(name, name), simple_value=value) for name, value in values.items()]
    return Event(wall_time=TIME + offset, step=step, summary=Summary(value=values))


events = [
    Event(wall_time=TIME, file_version="brain.Event:2"),
    Event(wall_time=TIME, session_log=SessionLog(status=SessionLog.START)),
    scalars(1, 1, loss=5.5, lr=0.002, grad_norm=1.25, tokens_per_s=12345.678, std=0.02, ratio=1e-3, absmax=4.5, median=0.5, kurtosis=3.25),
    scalars(2, 300, valid_loss=1.5),
    scalars(3, 70_000, loss=0.75),
]
with open(Path(__file__).with_name("events.out.tfevents.golden"), "wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
