import pytest
import torch

from taxogen.models.grids import joined_side
from taxogen.models.projectors import PROJECTORS, Projector, joined

FLAT = [kind for kind in PROJECTORS if kind.startswith("flat-")]
EACH = [kind for kind in PROJECTORS if kind not in FLAT]


def made(kind: str, features=(4, 6), tokens: int | None = None, scale: float | None = 0.2) -> Projector:
    torch.manual_seed(0)
    return Projector(kind, features, (tokens or (3 if kind in FLAT else features[0]), 32), 16, scale)


@pytest.mark.parametrize("kind", PROJECTORS)
def test_every_projector_gives_image_tokens_of_the_scale_that_is_asked_for(kind):
    projector = made(kind)
    tokens = projector(torch.randn(5, 4, 6))
    count = projector.tokens[0]
    assert tokens.shape == (5, count, 32)
    torch.testing.assert_close(
        tokens.square().mean(-1).sqrt(), torch.full((5, count), 0.2), rtol=1e-4, atol=0
    )
    assert not torch.allclose(tokens[0], tokens[1])
    tokens.sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in projector.parameters())


@pytest.mark.parametrize("kind", PROJECTORS)
def test_without_a_scale_tokens_are_what_the_layers_give(kind):
    features = torch.randn(5, 4, 6)
    projector = made(kind, scale=None)
    plain = projector.net(features.flatten(1) if kind in FLAT else features).reshape(5, -1, 32)
    torch.testing.assert_close(projector(features), plain, rtol=0, atol=0)


@pytest.mark.parametrize("kind", PROJECTORS)
def test_encoder_tokens_reach_their_own_image_token_or_in_a_flat_one_all(kind):
    projector, features = made(kind), torch.randn(1, 4, 6)
    for token in range(4):
        other = features.clone()
        other[:, token] += 1
        changed = (projector(other) - projector(features)).abs().amax(-1)[0] > 1e-4
        assert changed.all() if kind in FLAT else changed.tolist() == [at == token for at in range(4)]


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("side", [1, 2, 3])
def test_neighbours_in_the_grid_are_joined_row_by_row(kind, side):
    projector, features = made(kind, (36, 5), 36 // side**2), torch.randn(2, 36, 5)
    grid = features.reshape(2, 6, 6, 5)
    cells = [
        grid[:, r : r + side, c : c + side].reshape(2, 1, -1)
        for r in range(0, 6, side)
        for c in range(0, 6, side)
    ]
    torch.testing.assert_close(joined(features, side), torch.cat(cells, 1), rtol=0, atol=0)
    one_by_one = torch.cat([projector.net(cell) for cell in cells], 1)
    expected = torch.nn.functional.rms_norm(one_by_one, (32,), eps=1e-6) * 0.2
    torch.testing.assert_close(projector(features), expected)


def test_snapshots_keep_the_names_of_their_weights():
    """Projectors on disk are read by these names."""
    names = {kind: tuple(made(kind).state_dict()) for kind in PROJECTORS}
    two = ("net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias")
    assert names == {
        "flat-linear": ("net.weight", "net.bias"),
        "linear": ("net.weight", "net.bias"),
        "flat-gelu-mlp": two,
        "gelu-mlp": two,
        "fused-gelu-mlp": (*two, "net.4.weight", "net.4.bias"),
    }


def test_the_usual_hidden_widths_are_those_of_llava_and_prismatic():
    assert Projector("gelu-mlp", (4, 6), (4, 32), 0, None).net[0].weight.shape == (32, 6)
    fused = Projector("fused-gelu-mlp", (4, 6), (4, 32), 0, None).net
    assert [fused[at].weight.shape for at in (0, 2, 4)] == [(24, 6), (32, 24), (32, 32)]


def test_an_unknown_projector_is_refused():
    with pytest.raises(
        KeyError, match="projector 'conv' is not known; known: flat-gelu-mlp, flat-linear, linear"
    ):
        Projector("conv", (1, 6), (3, 32), 16, scale=0.2)


@pytest.mark.parametrize(
    ("encoder", "image", "known"),
    [(1, 4, "1"), (36, 6, "1, 4, 9, 36"), (36, 16, "1, 4, 9, 36"), (12, 3, "12"), (25, 9, "1, 25")],
)
def test_image_tokens_that_a_grid_cannot_give_are_refused(encoder, image, known):
    with pytest.raises(ValueError, match=rf"model.image_tokens={image} .* one of {known} image tokens"):
        joined_side(encoder, image, "linear")
