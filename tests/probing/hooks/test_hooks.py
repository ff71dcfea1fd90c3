import pytest
import torch
from tiny_models import CONFIGS, MULTIMODAL, tiny

from probing.hooks import edit, record, run
from probing.hooks.layouts import layout_of
from probing.sites import BLOCK_POINTS, PATTERN

TOKENS = torch.randint(3, 110, (2, 7), generator=torch.Generator().manual_seed(1))


def logits(model, **more):
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False, **more).logits


def hook_count(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("name", [*CONFIGS, *MULTIMODAL])
def test_recording_changes_no_bit_and_leaves_no_hook(name):
    model = tiny(name)
    before, hooks = logits(model), hook_count(model)
    with record(
        model, layout_of(model).select(["hook_embed", "blocks.*.*", "blocks.*.*.*", "ln_final.*"])
    ) as seen:
        assert torch.equal(logits(model), before)
    assert len(seen) >= 3 * 6 + 2
    assert hook_count(model) == hooks
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("name", CONFIGS)
def test_values_are_those_of_hidden_states_where_they_mean_the_same(name):
    model = tiny(name)
    with record(model, ["blocks.*.hook_resid_pre", "ln_final.hook_normalized"]) as seen, torch.no_grad():
        states = model(input_ids=TOKENS, output_hidden_states=True).hidden_states
    assert len(states) == len(seen)
    for state, value in zip(states, seen.values()):
        assert torch.equal(state, value)


def test_embed_is_before_the_learned_positions_of_gpt2():
    model = tiny("gpt2")
    with record(model, ["hook_embed", "blocks.0.hook_resid_pre"]) as seen:
        logits(model)
    assert torch.equal(seen["hook_embed"], model.transformer.wte(TOKENS))
    assert torch.equal(seen["blocks.0.hook_resid_pre"], seen["hook_embed"] + model.transformer.wpe.weight[:7])


def test_embed_of_a_multimodal_model_has_the_picture_in_it():
    model = tiny("llava")
    tokens = torch.tensor([[5, 119, 119, 119, 119, 6, 7]])
    picture = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with record(model, ["hook_embed", "blocks.0.hook_resid_pre"]) as seen, torch.no_grad():
        model(input_ids=tokens, pixel_values=picture)
        features = model.model.get_image_features(
            picture, vision_feature_select_strategy="default"
        ).pooler_output[0]
    assert torch.equal(seen["hook_embed"][0, 1:5], features)
    assert torch.equal(seen["hook_embed"], seen["blocks.0.hook_resid_pre"])


def test_embed_works_when_the_model_gets_embeddings():
    model = tiny("llama")
    given = torch.randn(2, 5, 32)
    with record(model, "hook_embed") as seen, torch.no_grad():
        model(inputs_embeds=given)
    assert torch.equal(seen["hook_embed"], given)
    with edit(model, {"hook_embed": lambda value: value + 1}), torch.no_grad():
        edited = model(inputs_embeds=given).logits
    with torch.no_grad():
        assert torch.equal(edited, model(inputs_embeds=given + 1).logits)


def test_edit_of_the_embedding_of_looked_up_tokens():
    model = tiny("llama")
    with edit(model, {"hook_embed": lambda value: value * 2}):
        edited = logits(model)
    with torch.no_grad():
        expected = model(inputs_embeds=model.model.embed_tokens(TOKENS) * 2, use_cache=False).logits
    assert torch.equal(edited, expected)


def test_z_is_split_into_heads_and_gives_the_attention_output():
    model = tiny("llama")
    with record(model, ["blocks.1.attn.hook_z", "blocks.1.hook_attn_out"]) as seen:
        logits(model)
    z = seen["blocks.1.attn.hook_z"]
    assert z.shape == (2, 7, 4, 8)
    with torch.no_grad():
        assert torch.equal(
            model.model.layers[1].self_attn.o_proj(z.flatten(-2)), seen["blocks.1.hook_attn_out"]
        )


def test_patterns_are_causal_distributions():
    model = tiny("llama", attention="eager")
    with record(model, "blocks.*.attn.hook_pattern") as seen:
        logits(model)
    for pattern in seen.values():
        assert pattern.shape == (2, 4, 7, 7)
        assert torch.allclose(pattern.sum(-1), torch.ones(2, 4, 7))
        assert not pattern.triu(1).any()


def test_post_of_the_mlp_is_what_its_projection_reads():
    model = tiny("llama")
    with record(model, ["blocks.0.hook_resid_mid", "blocks.0.mlp.hook_post"]) as seen:
        logits(model)
    block = model.model.layers[0]
    normed = block.post_attention_layernorm(seen["blocks.0.hook_resid_mid"])
    expected = torch.nn.functional.silu(block.mlp.gate_proj(normed)) * block.mlp.up_proj(normed)
    assert torch.allclose(seen["blocks.0.mlp.hook_post"], expected, atol=1e-6)


def test_stopping_skips_the_rest_of_the_model():
    model = tiny("llama")
    reached = []
    handle = model.model.layers[2].register_forward_hook(lambda *_: reached.append(2))
    with record(model, ["blocks.0.hook_resid_post", "blocks.1.hook_attn_out"], stop=True) as seen:
        model(input_ids=TOKENS)
    handle.remove()
    assert not reached
    full = run(model, {"input_ids": TOKENS}, "blocks.*.*")
    assert all(torch.equal(value, full[name]) for name, value in seen.items())


def test_take_keeps_only_what_it_gives():
    model = tiny("llama")
    with record(
        model, "blocks.*.hook_resid_post", take=lambda site, value: value[:, -1] * site.layer
    ) as seen:
        logits(model)
    assert {name: tuple(value.shape) for name, value in seen.items()} == {
        f"blocks.{layer}.hook_resid_post": (2, 32) for layer in range(3)
    }
    assert not seen["blocks.0.hook_resid_post"].any()


def test_recorded_values_carry_gradients():
    model = tiny("llama")
    with record(model, "blocks.1.hook_resid_post") as seen:
        seen_logits = model(input_ids=TOKENS).logits
    (gradient,) = torch.autograd.grad(seen_logits.sum(), seen["blocks.1.hook_resid_post"])
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", [*CONFIGS, *MULTIMODAL])
def test_writing_back_at_every_site_changes_no_bit(name):
    model = tiny(name)
    before = logits(model)
    sites = [site for site in layout_of(model).sites if site.point != PATTERN]
    with edit(model, dict.fromkeys(sites, torch.clone)):
        assert torch.equal(logits(model), before)
    with edit(model, dict.fromkeys(sites, lambda value: None)):
        assert torch.equal(logits(model), before)


@pytest.mark.parametrize("name", ["llama", "gemma2", "olmo2", "gpt2", "gpt_neox_sequential"])
def test_an_edit_of_the_middle_reaches_the_mlp_and_the_skip_connection(name):
    model = tiny(name)
    shift = torch.randn(32, generator=torch.Generator().manual_seed(2))
    with record(model, ["blocks.1.hook_attn_out", "blocks.1.hook_resid_pre"]) as seen:
        logits(model)
    with (
        edit(model, {"blocks.1.hook_resid_mid": lambda value: value + shift}),
        record(model, "blocks.1.*") as mid,
    ):
        by_middle = logits(model)
    # The same stream by another way: the attention adds the shift.
    with (
        edit(model, {"blocks.1.hook_attn_out": lambda value: value + shift}),
        record(model, "blocks.1.*") as out,
    ):
        by_attention = logits(model)
    assert torch.equal(mid["blocks.1.hook_attn_out"], seen["blocks.1.hook_attn_out"])
    for point in ("resid_mid", "mlp_out", "resid_post"):
        assert torch.allclose(mid[f"blocks.1.hook_{point}"], out[f"blocks.1.hook_{point}"], atol=1e-5)
    assert torch.allclose(by_middle, by_attention, atol=1e-5)
    assert not torch.equal(by_middle, logits(model))


def test_an_edit_of_the_middle_sees_the_edited_mlp_output():
    model = tiny("llama")
    edits = {
        "blocks.0.hook_resid_post": lambda value: value * 2,
        "blocks.0.hook_resid_mid": torch.zeros_like,
        "blocks.0.hook_mlp_out": torch.ones_like,
    }
    with edit(model, edits), record(model, ["blocks.1.hook_resid_pre"]) as seen:
        logits(model)
    assert torch.equal(seen["blocks.1.hook_resid_pre"], torch.full((2, 7, 32), 2.0))


def test_an_edit_in_one_row_leaves_the_others_alone():
    model = tiny("llama")

    def first_row(value):
        value = value.clone()
        value[0] += 1
        return value

    for point in BLOCK_POINTS:
        if point == PATTERN:
            continue
        with edit(model, {f"blocks.1.{point}": first_row}):
            edited = logits(model)
        assert torch.equal(edited[1], logits(model)[1])
        assert not torch.equal(edited[0], logits(model)[0])


def test_edit_by_glob_edits_every_match():
    model = tiny("llama")
    with edit(model, {"blocks.*.hook_mlp_out": torch.zeros_like}), record(model, "blocks.*.*") as seen:
        logits(model)
    for layer in range(3):
        post, mid = seen[f"blocks.{layer}.hook_resid_post"], seen[f"blocks.{layer}.hook_resid_mid"]
        assert torch.equal(post, mid)


@pytest.mark.parametrize("manager", ["record", "edit"])
def test_no_hook_is_left_after_an_exception(manager):
    model = tiny("llama")
    hooks = hook_count(model)

    def fail(*_):
        raise RuntimeError("inside the pass")

    sites = ["hook_embed", "blocks.*.*", "ln_final.hook_normalized"]
    context = (
        record(model, sites, take=fail) if manager == "record" else edit(model, dict.fromkeys(sites, fail))
    )
    with pytest.raises(RuntimeError, match="inside the pass"), context:
        logits(model)
    assert hook_count(model) == hooks
    with (
        pytest.raises(KeyError, match="no site matches"),
        edit(model, {"blocks.0.*": torch.clone, "blocks.9.*": torch.clone}),
    ):
        pass
    assert hook_count(model) == hooks


def test_an_edit_of_another_shape_is_refused():
    model = tiny("llama")
    with (
        pytest.raises(
            ValueError,
            match=r"the edit at blocks\.0\.hook_mlp_out has to give back \(2, 7, 32\).*found \(2, 7, 31\)",
        ),
        edit(model, {"blocks.0.hook_mlp_out": lambda value: value[..., 1:]}),
    ):
        logits(model)


def test_an_edit_of_a_pattern_is_refused():
    model = tiny("llama", attention="eager")
    with (
        pytest.raises(ValueError, match=r"can be recorded but not edited.*attn\.hook_z"),
        edit(model, {"blocks.0.attn.hook_pattern": torch.clone}),
    ):
        pass
