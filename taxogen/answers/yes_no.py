"""Yes/no read-outs: how much likelier Yes is than No after a question about a picture or a name.

The read-out is logit(Yes) − logit(No), which is the difference of their log-probabilities, in nats. Every
hypernym is asked of every subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from taxogen.answers.readout import Readout, log_odds
from taxogen.models.rows import Row
from taxogen.models.vlm import answer_tokens
from taxogen.questions import prompts


class YesNo(Readout):
    """A trained model asked yes/no questions.

    To ask about every leaf with a question of its own would take ten times as long as all the hypernyms, so that no
    picture is named out of all leaves (`best_names`).
    """

    format = "yes_no"
    about = "read-outs in nats: logit(Yes) minus logit(No)"
    decisions = ("calibrated", "zero")

    def texts(self, prompt: str, name: str = "") -> prompts.Segments:
        """The texts of a question about the first noun, whose place all nouns take in turn.

        A sentence in the picture's place says the name.
        """
        if name:
            noun = self.run.taxonomy.hypernyms[0]
            return prompts.segments(prompt, leaf=name, hypernym=noun, modality="text")
        return _asking(prompt, self.run.taxonomy.leaves[0])

    def hypernyms_of_pictures(
        self, pictures: Sequence[str], prompt: str
    ) -> Float[np.ndarray, "pictures hypernyms"]:
        """Read-out of every hypernym for every picture."""
        rows = [self.picture_row(prompt, picture) for picture in pictures]
        return self._log_odds(prompt, rows, self.run.taxonomy.hypernyms, what="hypernyms of pictures")

    def hypernyms_of_names(self, names: Sequence[str], prompt: str) -> Float[np.ndarray, "names hypernyms"]:
        """Read-out of every hypernym for every name: a sentence states the content of the picture in words."""
        rows = [self.name_row(prompt, name) for name in names]
        return self._log_odds(prompt, rows, self.run.taxonomy.hypernyms, what="hypernyms of names")

    def names_of_pictures(
        self, pictures: Sequence[str], prompt: str, which: Bool[np.ndarray, "pictures leaves"]
    ) -> Float[np.ndarray, "pictures leaves"]:
        """Read-out of the chosen leaf concepts, NaN for the others."""
        rows = [self.picture_row(prompt, picture) for picture in pictures]
        return self._log_odds(prompt, rows, self.run.taxonomy.leaves, which, what="names of pictures")

    def _log_odds(
        self,
        prompt: str,
        rows: list[Row],
        nouns: Sequence[str],
        which: np.ndarray | None = None,
        what: str = "score",
    ) -> Float[np.ndarray, "rows nouns"]:
        """The rows' questions are exchanged for those about each noun; what stands before them stays."""
        questions = []
        for noun in nouns:
            words = _asking(prompt, noun)
            row = self.vlm.row("", replace(words, answer=""), picture=0)
            questions.append(tuple(row.ids[place] for place in row.spans["cue"]))
        contexts, tokens = [row.before_cue for row in rows], answer_tokens(self.vlm, self.format)
        return log_odds(self.vlm, contexts, self.features, questions, tokens, which, what)


def _asking(prompt: str, noun: str) -> prompts.Segments:
    """A picture's question about a noun, be it a leaf or a hypernym."""
    return prompts.segments(prompt, leaf=noun, hypernym=noun, asked=noun)
