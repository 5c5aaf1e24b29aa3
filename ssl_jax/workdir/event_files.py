"""TensorBoard's event files, without TensorFlow: the records and protocol buffers of
the package tensorboard, which loads in a fifth of a second.

A summary is written as TensorBoard reads it: a number as `simple_value`, an image as
PNG, hyper-parameters as the session start of its plugin "hparams".
"""

import io
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from PIL import Image
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import metadata, plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from ssl_jax.workdir.files import replacing


class EventFile:
    """A new event file in a folder. What it is asked is what clu's SummaryWriter, which
    needs TensorFlow, would be asked by the same names."""

    def __init__(self, folder: str):
        # TensorBoard goes by "tfevents", and reads several in the order of their names.
        host = socket.gethostname()
        name = f"events.out.tfevents.{time.time():.6f}.{host}.{os.getpid()}"
        self._records = RecordWriter((Path(folder) / name).open("wb"))
        self._write(file_version="brain.Event:2")

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._summary(
            step,
            [
                summary_pb2.Summary.Value(tag=tag, simple_value=value)
                for tag, value in scalars.items()
            ],
        )

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Args: images: [1, H, W, 3] uint8, by their tags."""
        self._summary(
            step,
            [
                summary_pb2.Summary.Value(tag=tag, image=_png(image_1HWC[0]))
                for tag, image_1HWC in images.items()
            ],
        )

    def write_hparams(self, hparams: Mapping[str, float | bool | str]) -> None:
        """Of the run whose folder this is."""
        data = plugin_data_pb2.HParamsPluginData()
        session = data.session_start_info
        session.start_time_secs = time.time()
        for name, value in sorted(hparams.items()):
            if isinstance(value, bool):
                session.hparams[name].bool_value = value
            elif isinstance(value, str):
                session.hparams[name].string_value = value
            else:
                session.hparams[name].number_value = value
        value = summary_pb2.Summary.Value(
            tag=metadata.SESSION_START_INFO_TAG,
            tensor=metadata.NULL_TENSOR,
            metadata=metadata.create_summary_metadata(data),
        )
        self._summary(0, [value])

    def flush(self) -> None:
        """To the file: whoever watches reads it as the run goes on."""
        self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _summary(self, step, values):
        self._write(step=step, summary=summary_pb2.Summary(value=values))

    def _write(self, **fields):
        event = event_pb2.Event(wall_time=time.time(), **fields)
        self._records.write(event.SerializeToString())


def cut(path: Path, keeps: Callable[[str, int], bool]) -> None:
    """Takes each value whose tag and step `keeps` refuses out of an event file, which
    nobody writes to any more; what is left has its times. A last record that a killed
    process left half-written goes too.
    """
    kept = [_kept(record, event, keeps) for record, event in _records(path)]
    if sum(map(len, kept)) == path.stat().st_size:
        return
    beside = path.with_name("events.cut")  # TensorBoard would read one more "tfevents"
    with replacing(beside, "wb") as file:
        file.writelines(kept)
    beside.replace(path)


def _records(path: Path) -> Iterator[tuple[bytes, event_pb2.Event]]:
    """(a record as it lies in the file, its event) of each up to the first that is not
    whole, behind which TensorBoard does not read either.

    A record is the length of its event (8 bytes), a checksum of that (4), the event,
    and a checksum of that (4).
    """
    data, at = path.read_bytes(), 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        record = data[at : at + 12 + length + 4]
        if len(record) < 12 + length + 4:
            return
        try:
            yield record, event_pb2.Event.FromString(record[12:-4])
        except DecodeError:
            return
        at += len(record)


def _kept(record, event, keeps) -> bytes:
    """What is left of a record: it, a shorter one or nothing."""
    given = event.summary.value
    values = [value for value in given if keeps(value.tag, event.step)]
    if len(values) == len(given):
        return record
    if not values:
        return b""
    del given[:]
    given.extend(values)
    shorter = io.BytesIO()
    RecordWriter(shorter).write(event.SerializeToString())
    return shorter.getvalue()


def _png(image_HWC):
    height, width, channels = image_HWC.shape
    encoded = io.BytesIO()
    Image.fromarray(image_HWC).save(encoded, "png")
    return summary_pb2.Summary.Image(
        height=height,
        width=width,
        colorspace=channels,
        encoded_image_string=encoded.getvalue(),
    )
