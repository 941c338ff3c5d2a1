"""Trained networks, ready for new rows in their original units."""

from sweepwise.predict.kept import PREDICTION, prediction
from sweepwise.predict.predictor import Predictor

__all__ = ["PREDICTION", "Predictor", "prediction"]
