"""The preparation of inputs, a network and the units of its outputs as one module of torch."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from sweepwise.data.preparation import Preparation
from sweepwise.predict.predictor import Predictor


class Whole(nn.Module):
    """Rows in their original units -> probabilities or values, in float32 whatever the run computed in.

    x: (rows, ...) of float64, as `Preparation.coded` returns them -> (rows, classes), for regression (rows,).

    Args:
        predictor: whose network is copied.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        own = predictor.preparation
        self.network = copy.deepcopy(predictor.network).to("cpu")
        self._classes, self._units = len(own.labels), (own.target_mean, own.target_std)
        self._channels = (own.reading.channels or "first") if len(own.shape) > 1 else "first"
        self.register_buffer("mean", torch.from_numpy(own.scaling.mean))
        self.register_buffer("std", torch.from_numpy(own.scaling.std))
        self.encoded = None if own.filling is None else _Encoded(own)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if self.encoded is not None:
            x = self.encoded(x)
        if self._channels == "none":
            x = x.unsqueeze(1)
        if self._channels == "last":
            x = x.movedim(-1, 1)
        outputs = self.network(((x - self.mean) / self.std).float()).double()
        if self._classes:
            return torch.softmax(outputs, 1)
        mean, std = self._units
        return outputs[:, 0] * std + mean


class _Encoded(nn.Module):
    """The features of a table without missing values: what `Encoding.raw` and `Filling` do."""

    column: Tensor
    code: Tensor
    fill: Tensor
    known: Tensor
    indicators: Tensor

    def __init__(self, preparation: Preparation) -> None:
        super().__init__()
        filling = preparation.filling
        assert filling is not None
        features = filling.encoding.features
        column = [place for place, feature in enumerate(features) for _ in range(feature.width)]
        code = [np.nan if f.words is None else number for f in features for number in range(f.width)]
        self.register_buffer("column", torch.tensor(column))
        self.register_buffer("code", torch.tensor(code, dtype=torch.float64))
        self.register_buffer("fill", torch.from_numpy(filling.fill))
        self.register_buffer("known", torch.from_numpy(filling.known))
        self.register_buffer("indicators", torch.tensor(filling.indicators, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """(rows, columns) -> (rows, features)."""
        own = x.index_select(1, self.column)
        raw = torch.where(self.code.isnan(), own, (own == self.code).double())
        raw = torch.where(own.isnan(), self.fill, raw)
        raw = torch.where(self.known, raw, torch.zeros_like(raw))
        if not len(self.indicators):
            return raw
        return torch.cat([raw, x.index_select(1, self.indicators).isnan().double()], 1)
