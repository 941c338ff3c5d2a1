"""Regularizers: penalties, noise, augmentation, constraints, clipping."""

from sweepwise.regularizer.base import Regularizer, acting, refuse_other_than_images, row_norms

__all__ = ["Regularizer", "acting", "refuse_other_than_images", "row_norms"]
