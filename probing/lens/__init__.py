"""Lenses: the words that a layer would give if the model stopped there."""

from probing.lens.logit import LogitLens, word_evidence
from probing.lens.tuned import Translator, fit_translator
from probing.lens.words import nearest_words, unit_rows

__all__ = [
    "LogitLens",
    "Translator",
    "fit_translator",
    "nearest_words",
    "unit_rows",
    "word_evidence",
]
