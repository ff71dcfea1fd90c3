"""Lenses: the last layer's logits, a planted rotation, words of the planted circuit layer by layer, refusals."""

import numpy as np
import planted as circuit
import pytest
import torch
import transformers as hf
from tiny_models import CONFIGS, SMALL, tiny

from probing.hooks import record
from probing.lens import LogitLens, Translator, fit_translator, nearest_words, word_evidence

IDS = torch.tensor([[5, 9, 33, 47, 12, 8], [7, 3, 21, 90, 64, 31]])


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_at_the_last_layer_the_logit_lens_gives_the_models_logits(name):
    model = tiny(name)
    lens = LogitLens.of(model)
    with torch.no_grad(), record(model, "blocks.2.hook_resid_post") as seen:
        logits = model(input_ids=IDS).logits
    with torch.no_grad():
        torch.testing.assert_close(lens(seen["blocks.2.hook_resid_post"]), logits, rtol=1e-6, atol=1e-6)


def test_looking_changes_nothing_and_earlier_layers_say_something_else():
    model = tiny("llama")
    lens = LogitLens.of(model)
    with torch.no_grad(), record(model, "blocks.0.hook_resid_post", keep="last") as seen:
        logits = model(input_ids=IDS).logits
        early = lens(seen["blocks.0.hook_resid_post"])
        assert torch.equal(model(input_ids=IDS).logits, logits)
    assert (early - logits).abs().max() > 0.1


@pytest.fixture(scope="module")
def planted():
    return circuit.planted()


def test_the_planted_hypernym_can_be_read_from_its_layer_on_and_not_before(planted):
    lens = LogitLens.of(planted)
    ids = torch.tensor([circuit.prompt(leaf) for leaf in circuit.LEAVES])
    own = torch.tensor([[circuit.ID[circuit.hypernym_of(leaf)]] for leaf in circuit.LEAVES])
    with torch.no_grad(), record(planted, "blocks.*.hook_resid_post") as seen:
        planted(input_ids=ids)
    for layer in range(circuit.LAYERS):
        with torch.no_grad():
            log_probs, ranks = word_evidence(lens(seen[f"blocks.{layer}.hook_resid_post"][:, -1]), own)
        if layer < circuit.LAYER:
            # Nothing is written yet: all words have the same logit, and the first rank is shared.
            torch.testing.assert_close(log_probs.exp(), torch.full_like(log_probs, 1 / len(circuit.WORDS)))
        else:
            assert (ranks == 1).all()
            assert (log_probs.exp() > 0.5).all()


def test_words_are_ranked_and_their_probabilities_are_those_of_the_softmax():
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0], [0.0, 0.0, 0.0, 5.0]])
    log_probs, ranks = word_evidence(logits, torch.tensor([[1, 0, 2], [3, 0, 1]]))
    assert ranks.tolist() == [[1, 4, 2], [1, 2, 2]]
    torch.testing.assert_close(
        log_probs, logits.log_softmax(1).gather(1, torch.tensor([[1, 0, 2], [3, 0, 1]]))
    )


def rotated(n=600, d=24, seed=0):
    """(an earlier layer, the last one): the same content in a rotated and shifted code, with a little noise; leaves."""
    rng = np.random.default_rng(seed)
    leaves = np.repeat(np.arange(n // 4), 4)
    final = rng.standard_normal((n // 4, d))[leaves] * 3 + rng.standard_normal((n, d))
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return final @ turn + 2 + 0.05 * rng.standard_normal((n, d)), final, leaves


def test_the_tuned_lens_undoes_a_rotation_on_held_out_leaves_and_the_logit_lens_cannot():
    early, final, leaves = rotated()
    train = leaves < 100
    translator = fit_translator(early[train], final[train], leaves[train])
    table = np.random.default_rng(1).standard_normal((24, 50))
    said = (final[~train] @ table).argmax(1)
    tuned = (translator(early[~train]) @ table).argmax(1)
    plain = (early[~train] @ table).argmax(1)
    assert (tuned == said).mean() > 0.95
    assert (plain == said).mean() < 0.15
    torch.testing.assert_close(
        fit_translator(*map(torch.tensor, (early[train], final[train])), leaves[train])(torch.tensor(early)),
        torch.tensor(translator(early)),
    )


def test_where_nothing_is_to_be_found_the_translator_gives_the_mean():
    rng = np.random.default_rng(0)
    final, leaves = rng.standard_normal((300, 8)) + 4, np.repeat(np.arange(60), 5)
    translator = fit_translator(rng.standard_normal((300, 8)), final, leaves)
    found = translator(rng.standard_normal((500, 8)))
    assert np.abs(found.mean(0) - final.mean(0)).max() < 0.1
    assert found.std(0).max() < 0.1


def test_the_last_layer_is_translated_into_itself():
    _, final, leaves = rotated()
    translator = fit_translator(final, final, leaves)
    assert isinstance(translator, Translator)
    assert np.abs(translator(final) - final).max() < 0.01


def test_nearest_words_are_those_of_the_highest_cosine():
    table = np.array([[1.0, 0], [0, 2], [-1, 0], [0, 0], [3, 3]])
    found, cosines = nearest_words(np.array([[5.0, 1], [0, 0]]), table, 2)
    assert found[0].tolist() == [0, 4]
    assert cosines[0] == pytest.approx([5 / 26**0.5, 6 / 52**0.5])
    assert cosines[1].tolist() == [0, 0]
    words, same = nearest_words(torch.tensor([[5.0, 1], [0, 0]]), torch.tensor(table).float(), 2)
    assert words.tolist() == found.tolist()
    torch.testing.assert_close(same.double(), torch.tensor(cosines))


def test_what_cannot_be_looked_through_is_refused():
    with pytest.raises(ValueError, match="has no output embedding"):
        LogitLens.of(hf.AutoModel.from_config(hf.LlamaConfig(**SMALL)))
    scaled = hf.AutoModelForCausalLM.from_config(hf.CohereConfig(**SMALL, logit_scale=0.25)).eval()
    with (
        pytest.warns(UserWarning, match="not in probing"),
        pytest.raises(ValueError, match="add it to probing"),
    ):
        LogitLens.of(scaled)
    early, final, leaves = rotated()
    with pytest.raises(ValueError, match="the same rows of one model"):
        fit_translator(early[:-1], final, leaves)
    with pytest.raises(ValueError, match="found one group"):
        fit_translator(early, final, np.zeros(len(early)))
    with pytest.raises(ValueError, match="the 9 nearest of 3 words"):
        nearest_words(np.ones((1, 2)), np.ones((3, 2)), 9)
