# mypy: disable-error-code="import-untyped"
"""TensorBoard's file format: records with checksums, and the protocol buffers in them."""

import struct
import time
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

_LENGTH = struct.Struct("<Q")


_CRC = struct.Struct("<I")


def framed(step: int, field: int, payload: bytes) -> bytes:
    """A TFRecord that holds an Event with this step and field."""
    event = struct.pack("<BdB", 0x09, time.time(), 0x10) + varint(step) + bytes_field(field, payload)
    length = _LENGTH.pack(len(event))
    return length + masked_crc(length) + event + masked_crc(event)


def masked_crc(data: bytes) -> bytes:
    """The checksum that stands behind a record's length and behind its bytes."""
    crc = google_crc32c.value(data)
    return _CRC.pack(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(number: int) -> bytes:
    """A number >= 0, seven bits a byte, lowest first, the eighth bit set in all bytes but the last."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def bytes_field(number: int, payload: bytes) -> bytes:
    """A field of a protocol buffer whose wire type is 2: text, bytes, message, packed numbers."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def plugin_summary(tag: str, plugin: str, tensor: Any, content: bytes = b"", description: str = "") -> bytes:
    """Summary with one Value of a plugin: its tensor, what its tab is told of it, and what a person is."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata

    about = {"plugin_name": plugin, "content": content}
    metadata = SummaryMetadata(plugin_data=about, summary_description=description)
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)]).SerializeToString()


def texts(*texts: bytes) -> Any:
    """A TensorProto of texts; one alone is a scalar."""
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    sizes = [TensorShapeProto.Dim(size=len(texts))] if len(texts) > 1 else []
    return TensorProto(dtype="DT_STRING", tensor_shape=TensorShapeProto(dim=sizes), string_val=texts)


def floats(values: NDArray[np.float32]) -> Any:
    """A TensorProto of float32 numbers in the shape that they have."""
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    sizes = [TensorShapeProto.Dim(size=size) for size in values.shape]
    content = values.astype("<f4").tobytes()
    return TensorProto(dtype="DT_FLOAT", tensor_shape=TensorShapeProto(dim=sizes), tensor_content=content)
