import pytest
import torch

from taxogen.models.projectors import PROJECTORS, Projector


@pytest.mark.parametrize("kind", PROJECTORS)
def test_every_projector_gives_image_tokens_of_the_scale_of_the_embedding_table(kind):
    torch.manual_seed(0)
    projector = Projector(kind, (4, 6), (3, 32), 16, scale=0.2)
    features = torch.randn(5, 4, 6)
    tokens = projector(features)
    assert tokens.shape == (5, 3, 32)
    torch.testing.assert_close(tokens.square().mean(-1).sqrt(), torch.full((5, 3), 0.2), rtol=1e-4, atol=0)
    assert not torch.allclose(tokens[0], tokens[1])
    tokens.sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in projector.parameters())


@pytest.mark.parametrize("kind", PROJECTORS)
def test_every_encoder_token_reaches_every_image_token(kind):
    torch.manual_seed(0)
    projector = Projector(kind, (4, 6), (3, 32), 16, scale=0.2)
    features = torch.randn(1, 4, 6)
    for token in range(4):
        other = features.clone()
        other[:, token] += 1
        changed = (projector(other) - projector(features)).abs().amax(-1)
        assert (changed > 1e-4).all()


def test_snapshots_keep_the_names_of_their_weights():
    """Projectors on disk are read by these names."""
    names = {kind: tuple(Projector(kind, (1, 6), (3, 32), 16, 0.2).state_dict()) for kind in PROJECTORS}
    assert names["linear"] == ("net.weight", "net.bias")
    assert names["gelu-mlp"] == ("net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias")


def test_an_unknown_projector_is_refused():
    with pytest.raises(KeyError, match="projector 'conv' is not known; known: gelu-mlp, linear"):
        Projector("conv", (1, 6), (3, 32), 16, scale=0.2)
