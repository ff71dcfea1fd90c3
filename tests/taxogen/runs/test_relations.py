"""Relations: settings that would do nothing are refused, with the other setting that would make them count."""

import pytest

from taxogen.runs import config
from tests.taxogen.runs.refusals import refusal

REFUSED = [
    (
        "data.fraction=.5",
        "'data.fraction' counts only with data.ablation=random, or systematic without data.held_out",
    ),
    (("data.fraction=.5", "data.ablation=none"), "found data.fraction=0.5 with data.ablation=none"),
    (
        ("data.fraction=.5", "data.ablation=systematic", "data.held_out=bird"),
        "found data.fraction=0.5 with data.ablation=systematic",
    ),
    (
        "data.held_out=bird",
        "'data.held_out' counts only with data.ablation=systematic, found data.held_out=('bird',)",
    ),
    (
        "data.ablation=systematic",
        "data.ablation=systematic was asked for without data.held_out: name hypernyms",
    ),
    (
        "data.coherence=.25",
        "'data.coherence' counts only with data.shuffle=graded, found data.coherence=0.25",
    ),
    (("data.coherence=.25", "data.shuffle=within"), "found data.coherence=0.25 with data.shuffle=within"),
    (
        "data.negatives=hard",
        "'data.negatives' counts only with data.task=yes_no, found data.negatives='hard' with",
    ),
    (
        "train.epochs=3",
        "'train.epochs' counts only with train.steps=0, found train.epochs=3.0 with train.steps=300",
    ),
    (
        "train.match_steps=true",
        "'train.match_steps' counts only with train.steps=0, found train.match_steps=True",
    ),
    (
        ("model.hidden=64", "model.projector=flat-linear"),
        "'model.hidden' counts only with model.projector=one with a hidden layer",
    ),
    (
        "data.templates=is_there",
        "'data.templates': templates ['is_there'] do not go with data.task=completion",
    ),
    (
        "evaluate.templates=study",
        "'evaluate.templates': templates ['study'] do not go with data.task=completion",
    ),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_a_setting_that_would_do_nothing_is_refused_in_one_line(words, message):
    assert message in refusal(config.read, None, [words] if isinstance(words, str) else words)
