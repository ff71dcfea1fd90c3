"""Positions behind a cached prefix: one that is out of reach among others is refused, and named as a whole position."""

import pytest
import torch
from tiny_models import tiny
from transformers import DynamicCache

from probing.edits.knockout import knock_out
from probing.edits.steering import at_tokens


@pytest.mark.parametrize("tokens", [(1, 3), (3, 5), (3, 1), (5, 2)])
def test_one_token_out_of_the_pass_is_refused_even_among_those_in_it(tokens):
    change = at_tokens(lambda rows: rows, tokens, skip=2)
    with pytest.raises(ValueError, match="found tokens 2 to 4 in this pass"):
        change(torch.zeros(1, 3, 4))
    everything = at_tokens(lambda rows: rows + 1, (2, 4), skip=2)(torch.zeros(1, 3, 1))
    assert everything is not None
    assert everything.flatten().tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([(4, key) for key in range(5)], "query 4 would see no key at all"),
        ([(2, 0)], "the query 2 of a blocked edge is not in this pass, which computes tokens 3 to 5"),
        ([(6, 0)], "the query 6 of a blocked edge is not in this pass, which computes tokens 3 to 5"),
    ],
)
def test_a_query_that_cannot_be_closed_is_named_by_its_place_in_the_whole_sequence(edges, message):
    model = tiny("llama", attention="eager")
    ids = torch.tensor([[5, 9, 33, 47, 12, 8]])
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(input_ids=ids[:, :3], past_key_values=cache, use_cache=True)
        with pytest.raises(ValueError, match=message), knock_out(model, edges, [0]):
            model(input_ids=ids[:, 3:], past_key_values=cache, position_ids=torch.arange(3, 6)[None])
