"""How rows of a data set's kind are read from files."""

from __future__ import annotations

from dataclasses import dataclass

from sweepwise.data.channels import Channels


@dataclass(frozen=True)
class Reading:
    """What new rows are read by, as the rows of the data set were; see the keys of `table`.

    Attributes:
        target: column or array that is no feature; None: there is none.
        missing: texts, and numbers, that stand for a missing value.
        delimiter: between the cells of a csv file; None: by the file's ending.
        decimal: 'point' or 'comma', in numbers of text.
        channels: where those of images and sequences are; None: first.
    """

    target: str | None = None
    missing: tuple[str, ...] = ()
    delimiter: str | None = None
    decimal: str = "point"
    channels: Channels | None = None


NUMBERS = Reading()
