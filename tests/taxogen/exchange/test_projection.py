"""LLaVA's projector with a run's weights maps raw features as the run maps standardised ones."""

import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from taxogen.exchange.projection import EXPRESSED, llava_weights
from taxogen.models.features import FeatureRows, PictureStandardizer
from taxogen.models.projectors import PROJECTORS, Projector

TOKENS, FEATURES, WIDTH = 4, 24, 20


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize(
    ("kind", "hidden"), [("linear", 0), ("gelu-mlp", 0), ("gelu-mlp", 7), ("gelu-mlp", WIDTH)]
)
def test_raw_features_give_the_tokens_of_standardised_ones(kind, hidden, standardise):
    torch.manual_seed(hidden)
    rng = np.random.default_rng(hidden)
    # Far from 0, on scales that differ a thousandfold, as those of channels of a vision transformer.
    values = rng.normal(
        rng.normal(0, 30, FEATURES), 10 ** rng.uniform(-1, 2, FEATURES), (50, TOKENS, FEATURES)
    )
    values = values.astype(np.float32)
    standardiser = PictureStandardizer.fit(FeatureRows.of(values)) if standardise else None
    projector = Projector(kind, (TOKENS, FEATURES), (TOKENS, WIDTH), hidden, None).double()
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=FEATURES),
        text_config=LlamaConfig(hidden_size=WIDTH, num_attention_heads=2),
        projector_hidden_act=EXPRESSED[kind],
    )
    llava = LlavaMultiModalProjector(config)
    llava.load_state_dict(llava_weights(projector.net, WIDTH, standardiser))
    raw = torch.from_numpy(values).double()
    shown = raw
    if standardiser is not None:
        shown = (raw - torch.from_numpy(standardiser.mean)) / torch.from_numpy(standardiser.scale)
    with torch.no_grad():
        expected, tokens = projector(shown), llava.double()(raw)
    assert (tokens - expected).abs().max() < 1e-5 * expected.abs().max()


def test_every_projector_is_expressed_or_refused_by_name():
    assert set(EXPRESSED) | {"flat-gelu-mlp", "flat-linear", "fused-gelu-mlp"} == set(PROJECTORS)
