"""Output that cannot be encoded."""

import io
from collections import deque

import pytest

from sweepwise.system.console import TolerantStream


@pytest.mark.parametrize(
    ("encoding", "errors", "text", "written"),
    [
        ("utf-8", "strict", "caf\udce9 é", rb"caf\udce9 " + "é".encode()),
        ("utf-8", "surrogateescape", "caf\udce9", b"caf\xe9"),
        ("ascii", "strict", "x ≥ 1", rb"x \u2265 1"),
        ("latin-1", "strict", "é", b"\xe9"),
        ("ascii", "replace", "é", b"?"),
    ],
)
def test_what_a_stream_cannot_encode_is_escaped(encoding, errors, text, written):
    inner = io.TextIOWrapper(io.BytesIO(), encoding, errors)
    stream = TolerantStream(inner, deque())
    assert stream.write(text) == len(text) and not stream.lost
    stream.flush()
    assert inner.buffer.getvalue() == written
