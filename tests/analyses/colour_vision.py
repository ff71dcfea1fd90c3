"""Colours as colour-blind eyes see them, and how far apart those of a figure are."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from analyses.frame.drawing import CHANCE

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
LEAST = 10
"""CIELAB distance of colours that stand for different things; 2.3 is the just noticeable difference."""


def lab(colour: str, matrix: np.ndarray) -> np.ndarray:
    """CIELAB of a colour seen through a matrix on linear RGB, under D65."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(matrix @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    ratio = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(first: str, second: str) -> float:
    """The smallest distance of two colours to any of the four kinds of eyes."""
    return min(float(np.linalg.norm(lab(first, eye) - lab(second, eye))) for eye in VISION.values())


def too_near(figure: Figure) -> list[tuple[str, str]]:
    """The pairs of colours of a figure's lines and markers that some eyes do not distinguish; chance has no colour."""
    lines = [line for axes in figure.axes for line in axes.lines if line.get_zorder() != CHANCE["zorder"]]
    drawn = [line for line in lines if len(line.get_xydata())]  # pyright: ignore
    colours = sorted({to_hex(line.get_color()) for line in drawn})  # pyright: ignore
    return [pair for pair in itertools.combinations(colours, 2) if distance(*pair) < LEAST]
