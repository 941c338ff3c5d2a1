"""A file of weights that says itself whether it is whole: its metadata are its step and its sha256.

The sha256 is the one that the file has with zeros in place of it.
"""

import hashlib
import re
from typing import BinaryIO, NamedTuple

# Begins the header of a file; safetensors puts metadata in any order where it writes them again.
STAMP = re.compile(
    rb'\{"__metadata__":\{(?:"step":"(?P<step>\d+)",)?"sha256":"(?P<sha256>[0-9a-f]{64})"(?:,"step":"(?P<last>\d+)")?\}'
)
ZEROS = b"0" * 64
LONGEST = 256  # bytes of a file's beginning that hold its stamp
PIECE = 2**20  # bytes that are read at once


class Stamp(NamedTuple):
    """What a file says of itself, and how it is.

    Attributes:
        step: how many steps had been taken.
        sha256: as the file says.
        found: the sha256 that it has.
    """

    step: int
    sha256: str
    found: str


def stamped(step: int, content: bytes) -> bytes:
    """A safetensors file without metadata, with its step and its sha256 in them."""
    size = int.from_bytes(content[:8], "little")
    entries = content[9 : 8 + size].strip()
    head = b'{"__metadata__":{"step":"%d","sha256":"%b"}' % (step, ZEROS)
    header = head + (b"" if entries == b"}" else b",") + entries
    header += b" " * (-len(header) % 8)
    before, body = len(header).to_bytes(8, "little"), memoryview(content)[8 + size :]
    digest = hashlib.sha256(before + header)
    digest.update(body)
    return b"".join([before, header.replace(ZEROS, digest.hexdigest().encode(), 1), body])


def stamp_of(file: BinaryIO) -> Stamp | None:
    """The stamp of a safetensors file, which is read to its end; None if it has none."""
    beginning = file.read(LONGEST)
    stamp = STAMP.match(beginning, 8)
    if not stamp or not (step := stamp["step"] or stamp["last"]):
        return None
    begin, end = stamp.span("sha256")
    found = hashlib.sha256(beginning[:begin] + ZEROS + beginning[end:])
    while piece := file.read(PIECE):
        found.update(piece)
    return Stamp(int(step), stamp["sha256"].decode(), found.hexdigest())
