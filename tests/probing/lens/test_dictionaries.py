"""Dictionaries in both layouts: equal to what their authors' code computes, honoured settings, and refusals."""

import numpy as np
import pytest
import torch
from tiny_dictionaries import drawn, trained, write_sae_lens, write_sparsify

from probing.lens.dictionaries import Dictionary, folders_of, read
from probing.store import MismatchError

X = np.random.default_rng(1).normal(size=(30, 12)).astype(np.float32) * 3 + 1
STATES = torch.tensor(X)
POSITIVE = torch.rand(24, generator=torch.Generator().manual_seed(0))


def top(before, k):
    best = before.topk(k, dim=1)
    return torch.zeros_like(before).scatter(1, best.indices, torch.relu(best.values))


def both(dictionary: Dictionary, x=X):
    activations = dictionary.encode(x)
    return activations, dictionary.reconstruct(x, activations)


def expected(w, x, activate, out=lambda y: y):
    """Activations and reconstruction as the plain formula has them."""
    active = activate(x)
    return active.numpy(), out(active @ w["W_dec"] + w["b_dec"]).numpy()


def same(dictionary, pair, x=X):
    for one, other in zip(both(dictionary, x), pair):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    assert 0 < (pair[0] > 0).mean() < 0.9


def test_sparsify_subtracts_the_bias_of_the_decoder_and_keeps_the_k_largest(tmp_path):
    w = drawn()
    read_back = read(write_sparsify(tmp_path / "layers.3", w))
    before = torch.relu((STATES - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    same(read_back, expected(w, STATES, lambda x: top(before, 4)))
    assert read_back.site == "blocks.3.hook_resid_post"
    assert (both(read_back)[0] > 0).sum(axis=1).max() == 4
    assert read(write_sparsify(tmp_path / "layers.3.mlp", w)).site == "blocks.3.hook_mlp_out"


def test_groups_of_sparsify_have_one_active_feature_each(tmp_path):
    w = drawn()
    read_back = read(write_sparsify(tmp_path / "layers.0", w, activation="groupmax"))
    before = torch.relu((STATES - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).unflatten(1, (4, 6))
    kept = torch.where(before == before.amax(dim=2, keepdim=True), before, 0).flatten(1)
    same(read_back, expected(w, STATES, lambda x: kept))


GATE = {"b_gate": drawn(seed=3)["b_enc"], "r_mag": 0.3 * drawn(seed=4)["b_enc"]}
CASES = {
    "standard": ({}, {}, torch.relu),
    "older": ({"older": True}, {}, torch.relu),
    "bias_stays": ({"apply_b_dec_to_input": False}, {}, torch.relu),
    "jumprelu": (
        {"architecture": "jumprelu"},
        {"threshold": POSITIVE},
        lambda y: torch.relu(y) * (y > POSITIVE),
    ),
    "topk": ({"architecture": "topk", "k": 3}, {}, lambda y: top(y, 3)),
    "older_topk": ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}}, {}, lambda y: top(y, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_architectures_of_sae_lens_compute_what_their_formula_says(tmp_path, name):
    config, more, activate = CASES[name]
    w = drawn()
    read_back = read(write_sae_lens(tmp_path, {**w, **more}, **config))
    bias = 0 if name == "bias_stays" else w["b_dec"]
    same(read_back, expected(w, STATES, lambda x: activate((x - bias) @ w["W_enc"] + w["b_enc"])))
    assert read_back.site == "blocks.1.hook_resid_post"


def test_a_gated_dictionary_has_a_gate_and_a_magnitude(tmp_path):
    w = drawn()
    renamed = {**{name: one for name, one in w.items() if name != "b_enc"}, "b_mag": w["b_enc"], **GATE}
    read_back = read(write_sae_lens(tmp_path, renamed, architecture="gated"))

    def activate(x):
        inner = x - w["b_dec"]
        gate = inner @ w["W_enc"] + GATE["b_gate"] > 0
        return gate * torch.relu(inner @ (w["W_enc"] * GATE["r_mag"].exp()) + w["b_enc"])

    same(read_back, expected(w, STATES, activate))


def test_states_are_normalised_as_a_dictionary_expects_and_reconstructed_in_their_own_scale(tmp_path):
    w = drawn()

    def activate(x):
        return torch.relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])

    scale = STATES.norm(dim=1, keepdim=True) / 12**0.5
    read_back = read(write_sae_lens(tmp_path / "a", w, normalize_activations="constant_norm_rescale"))
    same(read_back, expected(w, STATES / scale, activate, lambda y: y * scale))
    mean, deviation = STATES.mean(1, keepdim=True), STATES.std(1, keepdim=True)
    read_back = read(write_sae_lens(tmp_path / "b", w, normalize_activations="layer_norm"))
    same(read_back, expected(w, (STATES - mean) / deviation, activate, lambda y: y * deviation + mean))
    centred = {
        "hook_name": "blocks.1.hook_resid_post",
        "model_from_pretrained_kwargs": {"center_writing_weights": True},
    }
    read_back = read(write_sae_lens(tmp_path / "c", w, metadata=centred))
    same(read_back, expected(w, STATES - mean, activate))


def test_features_weighed_by_the_length_of_their_direction_are_chosen_so_and_undone(tmp_path):
    w = drawn()
    lengths = w["W_dec"].norm(dim=1)
    config = {"architecture": "topk", "k": 3, "rescale_acts_by_decoder_norm": True}
    activations, states = both(read(write_sae_lens(tmp_path, w, **config)))
    active = top(((STATES - w["b_dec"]) @ w["W_enc"] + w["b_enc"]) * lengths, 3)
    np.testing.assert_allclose(activations, active.numpy(), rtol=1e-4, atol=1e-4)
    plain = (active / lengths) @ w["W_dec"] + w["b_dec"]
    np.testing.assert_allclose(states, plain.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("older")])
def test_it_equals_sae_lens_where_that_is_installed(tmp_path, name):
    package = pytest.importorskip("sae_lens", exc_type=ImportError)
    config, more, _ = CASES[name]
    folder = write_sae_lens(tmp_path, {**drawn(), **more}, **{"apply_b_dec_to_input": True, **config})
    other = package.SAE.load_from_disk(folder)
    active = other.encode(STATES)
    same(read(folder), (active.detach().numpy(), other.decode(active).detach().numpy()))


def test_a_trained_dictionary_explains_the_states_that_it_was_trained_for_and_not_others(tmp_path):
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(16, 12))
    active = rng.random((300, 16)) * (rng.random((300, 16)) < 0.15)
    states = (active @ directions).astype(np.float32)
    dictionary = read(write_sparsify(tmp_path / "layers.0", trained(states)))

    def unexplained(x):
        return ((x - both(dictionary, x)[1]) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()

    other = rng.normal(size=states.shape).astype(np.float32) * states.std()
    assert unexplained(states) < 0.15
    assert unexplained(other) > 3 * unexplained(states)


def test_a_folder_of_dictionaries_is_read_in_parts(tmp_path):
    for name in ("layers.1", "layers.0"):
        write_sparsify(tmp_path / name)
    assert [folder.name for folder in folders_of(tmp_path)] == ["layers.0", "layers.1"]
    dictionary = read(tmp_path / "layers.0")
    many = np.tile(X, (20, 1))
    parts = [part for _, part in dictionary.parts(many)]
    assert len(parts) == 3
    np.testing.assert_allclose(np.vstack(parts), dictionary.encode(many), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("write", "config", "error", "message"),
    [
        (
            write_sae_lens,
            {"architecture": "temporal"},
            ValueError,
            "architecture 'temporal', which is not known",
        ),
        (write_sae_lens, {"activation_fn": "tanh-relu"}, ValueError, "activation_fn 'tanh-relu'"),
        (write_sae_lens, {"normalize_activations": "expected_average_only_in"}, ValueError, "fold them"),
        (write_sae_lens, {"site": "blocks.1.hook_nowhere"}, ValueError, "hook point 'blocks.1.hook_nowhere'"),
        (write_sae_lens, {"architecture": "jumprelu"}, ValueError, "has no 'threshold'; it holds W_dec"),
        (write_sae_lens, {"weights": {**drawn(), "b_dec": torch.zeros(9)}}, ValueError, "do not fit"),
        (
            write_sae_lens,
            {"weights": {**drawn(), "scaling_factor": torch.full((24,), 2.0)}},
            ValueError,
            "scaling",
        ),
        (write_sae_lens, {"architecture": "topk"}, ValueError, "cfg.json has no k"),
        (write_sparsify, {"transcode": True}, ValueError, "with transcode; only autoencoders"),
        (write_sparsify, {"activation": "softmax"}, ValueError, "activation 'softmax'"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(tmp_path, write, config, error, message):
    folder = write(tmp_path / "layers.1", **config)
    with pytest.raises(error, match=message) as refusal:
        read(folder)
    assert "\n" not in str(refusal.value)


def test_a_folder_without_a_dictionary_and_states_of_another_width_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither cfg.json with sae.safetensors"):
        folders_of(tmp_path)
    (tmp_path / "sae.safetensors").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"has no cfg.json; restore it"):
        read(tmp_path)
    with pytest.raises(ValueError, match="no hook point that is known"):
        read(write_sparsify(tmp_path / "layer3"))
    with pytest.raises(MismatchError, match="12 wide, and these are 5 wide"):
        read(write_sparsify(tmp_path / "layers.3")).encode(X[:, :5])
