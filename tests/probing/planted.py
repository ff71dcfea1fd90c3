"""A tiny Llama whose weights are set by hand: one head of one layer writes the hypernym, at the last token only.

In "<s> A crow is a kind of" the token "of" looks at the noun in head `HEAD` of layer `LAYER` and writes the noun's
hypernym into a subspace that only the words of hypernyms are read from. In "<s> A crow is also called" the token
"called" does the same with the leaf's own name, in `LEAF_HEAD`. Every other token looks at "<s>" and writes nothing;
every other weight that writes is zero. A picture is four tokens that carry the leaf's embedding and noise that no
head reads.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

LAYERS, HEADS, HEAD_WIDTH = 4, 4, 16
LAYER, HEAD, LEAF_HEAD = 2, 1, 3
PICTURE = 4  # tokens
TAXONOMY = {
    "bird": ("crow", "duck", "eagle", "owl"),
    "fish": ("carp", "eel", "pike", "trout"),
    "tool": ("axe", "drill", "hammer", "saw"),
    "fruit": ("apple", "fig", "pear", "plum"),
}
HYPERNYMS = tuple(TAXONOMY)
LEAVES = tuple(leaf for leaves in TAXONOMY.values() for leaf in leaves)
WORDS = ("<s>", "A", "is", "a", "kind", "of", "also", "called", *HYPERNYMS, *LEAVES)
ID = {word: at for at, word in enumerate(WORDS)}
WIDTH = HEADS * HEAD_WIDTH  # of the residual stream: words, then hypernyms, then names, then noise

_FRAMES = {"kind": ("is", "a", "kind", "of"), "called": ("is", "also", "called")}
_HYPERNYM_AT, _NAME_AT = len(WORDS), len(WORDS) + len(HYPERNYMS)
_NOISE_AT = _NAME_AT + len(LEAVES)
_SHARP = 60.0  # attention score of what is looked at; everything else has 0


def hypernym_of(leaf: str) -> str:
    """The hypernym of a leaf."""
    return next(name for name, leaves in TAXONOMY.items() if leaf in leaves)


def prompt(leaf: str, question: str = "kind") -> list[int]:
    """Token ids of a prompt: `kind` asks for the hypernym, `called` for the leaf's name."""
    return [ID[word] for word in ("<s>", "A", leaf, *_FRAMES[question])]


def spans(question: str = "kind", slot: int = 1) -> dict[str, tuple[int, ...]]:
    """Where the slot (of so many tokens), the cue and the last token stand."""
    end = 2 + slot + len(_FRAMES[question])
    return {"slot": tuple(range(2, 2 + slot)), "cue": tuple(range(2 + slot, end)), "last": (end - 1,)}


def hypernym_direction(name: str) -> Tensor:
    """The direction of the residual stream into which the planted head writes a hypernym."""
    return torch.eye(WIDTH)[_HYPERNYM_AT + HYPERNYMS.index(name)]


def name_direction(leaf: str) -> Tensor:
    """The direction into which the other planted head writes a leaf's name."""
    return torch.eye(WIDTH)[_NAME_AT + LEAVES.index(leaf)]


def embeddings(model: LlamaForCausalLM, ids: Sequence[int]) -> Tensor:
    """The embeddings [token, width] of token ids."""
    return model.get_input_embeddings()(torch.tensor(ids)).detach()


def picture_prompt(model: LlamaForCausalLM, leaf: str, question: str = "kind", seed: int = 0) -> Tensor:
    """The embeddings [token, width] of a prompt with a picture of the leaf in the slot."""
    ids = prompt(leaf, question)
    tokens = embeddings(model, [ids[2]] * PICTURE)
    noise = torch.zeros(PICTURE, WIDTH)
    generator = torch.Generator().manual_seed(1000 * seed + LEAVES.index(leaf))
    noise[:, _NOISE_AT:] = 0.3 * torch.randn(PICTURE, WIDTH - _NOISE_AT, generator=generator)
    return torch.cat([embeddings(model, ids[:2]), tokens + noise, embeddings(model, ids[3:])])


def planted() -> LlamaForCausalLM:
    """The model, in evaluation mode, with eager attention."""
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=WIDTH, intermediate_size=8, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=64, bos_token_id=0,
        eos_token_id=None, pad_token_id=None, tie_word_embeddings=False,
        # So slow a rotation that the last pair of a head's dimensions does not see positions.
        rope_parameters={"rope_type": "default", "rope_theta": 1e12},
        attn_implementation="eager",
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.fill_(1.0 if "norm" in name else 0.0)
        model.model.embed_tokens.weight[:, : len(WORDS)] = torch.eye(len(WORDS))
        attention = model.model.layers[LAYER].self_attn
        _look(attention, HEAD, "of")
        _look(attention, LEAF_HEAD, "called")
        for leaf in LEAVES:
            hypernym = HYPERNYMS.index(hypernym_of(leaf))
            _carry(attention, HEAD, ID[leaf], hypernym, _HYPERNYM_AT + hypernym)
            name = LEAVES.index(leaf)
            _carry(attention, LEAF_HEAD, ID[leaf], name, _NAME_AT + name)
        head = model.lm_head.weight
        head[[ID[name] for name in HYPERNYMS], _HYPERNYM_AT:_NAME_AT] = torch.eye(len(HYPERNYMS))
        head[[ID[name] for name in LEAVES], _NAME_AT:_NOISE_AT] = torch.eye(len(LEAVES))
    return model.requires_grad_(False)


def _look(attention, head: int, asking: str) -> None:
    """In this head one word looks at leaves, every other at "<s>"."""
    start, noun = head * HEAD_WIDTH + HEAD_WIDTH // 2 - 1, head * HEAD_WIDTH + HEAD_WIDTH - 1
    # Normed words have the length √width, queries and keys both; scores are divided by √head width.
    strength = (_SHARP * HEAD_WIDTH**0.5 / WIDTH) ** 0.5
    attention.q_proj.weight[start, : len(WORDS)] = strength
    attention.q_proj.weight[start, ID[asking]] = 0
    attention.q_proj.weight[noun, ID[asking]] = strength
    attention.k_proj.weight[start, ID["<s>"]] = strength
    attention.k_proj.weight[noun, [ID[leaf] for leaf in LEAVES]] = strength


def _carry(attention, head: int, word: int, through: int, to: int) -> None:
    """The head carries a word through one of its dimensions into one of the residual stream."""
    at = head * HEAD_WIDTH + through
    attention.v_proj.weight[at, word] = 1 / WIDTH**0.5
    attention.o_proj.weight[to, at] = 1
