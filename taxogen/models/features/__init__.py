"""Features of pictures by a frozen encoder: computed once, cached, and read row by row."""

from __future__ import annotations

from taxogen.models.features.cache import cached, features
from taxogen.models.features.pooling import Features, bins, pool
from taxogen.models.features.rows import FeatureRows, PictureFeatures, PictureStandardizer

__all__ = [
    "FeatureRows",
    "Features",
    "PictureFeatures",
    "PictureStandardizer",
    "bins",
    "cached",
    "features",
    "pool",
]
