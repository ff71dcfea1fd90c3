"""Lenses: the words that a layer would give if the model stopped there, or that its states are most like."""

from probing.lens.bank import Bank, build_bank, read_sentences
from probing.lens.contextual import Neighbours, nearest_states, word_cosines, words_in
from probing.lens.jacobian import Linearisation, linearise, mean_of
from probing.lens.logit import LogitLens, word_evidence
from probing.lens.patchscope import IDENTITY, Patchscope, check_template
from probing.lens.tuned import Translator, fit_translator
from probing.lens.words import nearest_words, unit_rows

__all__ = [
    "IDENTITY",
    "Bank",
    "Linearisation",
    "LogitLens",
    "Neighbours",
    "Patchscope",
    "Translator",
    "build_bank",
    "check_template",
    "fit_translator",
    "linearise",
    "mean_of",
    "nearest_states",
    "nearest_words",
    "read_sentences",
    "unit_rows",
    "word_cosines",
    "word_evidence",
    "words_in",
]
