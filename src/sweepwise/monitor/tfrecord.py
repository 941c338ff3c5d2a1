# mypy: disable-error-code="import-untyped"
"""The format of TensorBoard's event files: records with checksums, and the protocol buffers in them.

An event file is a row of TFRecords: length (uint64), masked CRC-32C of the length, bytes, masked CRC-32C of
the bytes, all little-endian; the bytes are an `Event` protocol buffer. Events and their fields are encoded
here at a tenth of the cost of `SummaryWriter`; the protocol buffers of plugins are TensorBoard's own, whose
import (15 to 30 ms) waits until one is written.

Source: TensorFlow, `lib/io/record_writer.cc`; TensorBoard, `compat/proto/{event,summary}.proto`.
"""

import functools
import math
import struct
import time
from collections.abc import Mapping
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

FILE_VERSION, GRAPH, SUMMARY, SESSION_LOG = 3, 4, 5, 7  # fields of Event

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_FLOAT = struct.Struct("<f")


def version_record(at: float | None = None) -> bytes:
    """The first record of every event file."""
    return framed(0, FILE_VERSION, b"brain.Event:2", at)


def framed(step: int, field: int, payload: bytes, at: float | None = None) -> bytes:
    """A TFRecord of an Event with a step and one more field, at a time; None: now."""
    event = (
        struct.pack("<BdB", 0x09, time.time() if at is None else at, 0x10)
        + varint(step)
        + bytes_field(field, payload)
    )
    length = _LENGTH.pack(len(event))
    return length + masked_crc(length) + event + masked_crc(event)


def masked_crc(data: bytes) -> bytes:
    """The checksum that follows a record's length and its bytes."""
    crc = google_crc32c.value(data)
    return _CRC.pack(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(number: int) -> bytes:
    """A number >= 0 as a varint: 7 bits a byte, lowest first; the eighth bit is set but in the last byte."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def bytes_field(number: int, payload: bytes) -> bytes:
    """A field of a protocol buffer of wire type 2: text, bytes, message or packed numbers."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def scalar_summary(values: Mapping[str, float]) -> bytes:
    """A Summary with a number for each tag, as float32; NaN and infinity are kept."""
    return b"".join([_scalar_head(tag) + _float32(value) for tag, value in values.items()])


@functools.cache
def _scalar_head(tag: str) -> bytes:
    """A Summary with one Value, up to the four bytes of its simple_value."""
    value = bytes_field(1, tag.encode()) + b"\x15"
    return b"\x0a" + varint(len(value) + _FLOAT.size) + value


def _float32(value: float) -> bytes:
    try:
        return _FLOAT.pack(value)
    except OverflowError:  # a float64 beyond 3.4e38
        return _FLOAT.pack(math.copysign(math.inf, value))


def plugin_summary(tag: str, plugin: str, tensor: Any, content: bytes = b"", description: str = "") -> bytes:
    """A Summary with one Value of a plugin: tensor, settings of the plugin's tab, description."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata

    about = {"plugin_name": plugin, "content": content}
    metadata = SummaryMetadata(plugin_data=about, summary_description=description)
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)]).SerializeToString()


def text_tensor(*texts: bytes) -> Any:
    """A TensorProto of texts; a single text is a scalar."""
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    sizes = [TensorShapeProto.Dim(size=len(texts))] if len(texts) > 1 else []
    return TensorProto(dtype="DT_STRING", tensor_shape=TensorShapeProto(dim=sizes), string_val=texts)


def float_tensor(values: NDArray[np.float32]) -> Any:
    """A TensorProto of float32 numbers in their shape."""
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    sizes = [TensorShapeProto.Dim(size=size) for size in values.shape]
    content = values.astype("<f4").tobytes()
    return TensorProto(dtype="DT_FLOAT", tensor_shape=TensorShapeProto(dim=sizes), tensor_content=content)
