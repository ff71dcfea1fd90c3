"""The settings of a run in five groups; `taxogen config` and docs/settings.md print their lines under "Attributes"."""

from __future__ import annotations

from dataclasses import dataclass

from taxogen.runs.names import device, site_pattern, step
from taxogen.runs.setting import setting
from taxogen.world.dataset_pictures import spelling

_SPANS = tuple(
    f"{span}{pooling}" for span in ("slot", "cue", "last") for pooling in ("", ":mean", ":last", ":all")
)
_TEMPLATES = "taxogen.questions.prompts:TEMPLATES"


@dataclass(frozen=True)
class DataConfig:
    """Pictures, their split and names, the questions about them, and the hypernym evidence that is left.

    Attributes:
        task: format of the questions: a sentence to complete, or a question answered Yes or No
        templates: wordings of leaf and of hypernym questions; empty: one of each
        chat: whether questions stand in the chat template of the language model
        negatives: how the hypernyms of questions answered No are drawn (task yes_no only)
        pictures: pictograms, the bundled ones; a folder that holds a folder of pictures for each leaf, here or by a URL
            such as s3://BUCKET/FOLDER; or datasets:NAME?split=…&image=…&label=…, a data set of Hugging Face's datasets,
            in a folder or on the hub
        taxonomy: a CSV table with the columns leaf, hypernym; empty: the one that comes with the pictures
        split: pictures inside each leaf (seeded; study: by name), whole leaf concepts, or whole picture sources
        leaves: number of leaf concepts, a seeded draw over all categories; 0: all
        pictures_per_leaf: largest number of pictures of each leaf concept, a seeded draw; 0: all
        ablation: hypernym evidence taken out of training: none, all (full), that of leaves drawn for each hypernym
            (random), that of whole hypernyms (systematic)
        fraction: share of the leaves of each hypernym (random), or of the hypernyms (systematic without held_out), that
            lose their evidence
        rule: which questions go: holdout or study (full), pair or leaf (random), holdout or leaf (systematic); study:
            the published rule; empty: the first of these
        held_out: hypernyms that lose all their evidence (ablation systematic)
        shuffle: exchange of pictures between leaves: inside categories (within), of whole categories (category), for a
            share of the leaves inside them (graded), over all leaves (across: never to one that shares a hypernym,
            -plain to any, -matched scored on leaves that are named rightly)
        coherence: share of the leaves that change names inside their category (shuffle graded)
    """

    task: str = setting("completion", known="taxogen.questions.prompts:FORMATS")
    templates: tuple[str, ...] = setting((), known=_TEMPLATES)
    chat: bool = False
    negatives: str = setting("random", known="taxogen.questions.negatives:RULES")
    pictures: str = setting("pictograms", needed=True, spelled=spelling)
    taxonomy: str = ""
    split: str = setting("seeded", known="taxogen.world.splits:RULES")
    leaves: int = setting(0, at_least=2, zero=True)
    pictures_per_leaf: int = setting(0, at_least=2, zero=True)  # one alone would leave none to test on
    ablation: str = setting("full", known="taxogen.questions.ablation:RULES")
    fraction: float = setting(1.0, at_least=0, at_most=1)
    rule: str = ""
    held_out: tuple[str, ...] = ()
    shuffle: str = setting("none", known="taxogen.world.shuffle:KINDS")
    coherence: float = setting(0.5, at_least=0, at_most=1)


@dataclass(frozen=True)
class ModelConfig:
    """Which frozen encoder, which frozen language model, and the projector that is learned between them.

    Or a released vision-language model (`vlm`) in the place of all three, of which nothing is learned.

    Attributes:
        encoder: efficientnet-lite2, efficientnet-lite0 or vit-s14-saliency (in packages); a hub name or folder that
            transformers reads, with #final for its last block; or timm:NAME
        encoder_tokens: tokens of a picture that go into the projector: the encoder's grid is averaged down to this
            number, a square
        lm: smollm2-135m (in a package), a hub name, a folder, or a GGUF file
        init: weights of the language model: pretrained, random, or pretrained token embeddings around random blocks
        projector: linear, gelu-mlp or fused-gelu-mlp of each encoder token; flat-linear or flat-gelu-mlp of all encoder
            tokens of a picture as one vector
        hidden: width of the projector's hidden layer; 0: the usual width of such a projector
        image_tokens: tokens of a picture that the language model reads; unless the projector is flat as many as
            encoder_tokens, or fewer by a square (neighbours joined)
        standardise: whether encoder features are standardised by mean and scale of training pictures
        normalise: whether image tokens are brought to one root mean square
        token_scale: that root mean square; 0: that of the language model's token embeddings
        vlm: a released model instead of encoder, projector and lm: hub name or folder that AutoModelForImageTextToText
            reads; empty: none
        picture_side: side in pixels to which pictures are squashed before a released model's processor; 0: as they are
        feature_dtype: number type in which encoder features are cached; everything computes on them as float32
        dtype: number type of the language model; auto: bfloat16 where hardware multiplies it, else float32
        device: auto (the accelerator where there is one), cpu, cuda, cuda:1, mps or xpu, in every stage and analysis
    """

    encoder: str = setting("efficientnet-lite2", needed=True)
    encoder_tokens: int = setting(1, at_least=1)
    lm: str = setting("smollm2-135m", needed=True)
    init: str = setting("pretrained", known=("pretrained", "random", "pretrained-embeddings"))
    projector: str = setting("flat-gelu-mlp", needed=True)
    hidden: int = setting(1024, at_least=1, zero=True)
    image_tokens: int = setting(4, at_least=1)
    standardise: bool = True
    normalise: bool = True
    token_scale: float = setting(0.0, at_least=0)
    vlm: str = ""
    picture_side: int = setting(0, at_least=8, zero=True)
    feature_dtype: str = setting("float32", known=("float32", "bfloat16", "float16"))
    dtype: str = setting("auto", known=("auto", "float32", "bfloat16", "float16", "float64"))
    device: str = setting("auto", spelled=device)


@dataclass(frozen=True)
class TrainConfig:
    """How the projector is learned: AdamW, a linear warm-up, then a cosine to zero.

    Attributes:
        steps: optimiser steps; 0: as many as `epochs` are
        epochs: times that each question is shown (steps 0 only)
        match_steps: whether epochs count the questions before the ablation: as many steps at every fraction
        batch: questions in a step
        order: what is shuffled: pictures, all whose questions come one after another, or questions one by one (items)
        lr: highest learning rate
        weight_decay: of AdamW, a share of the weights in a step, times the learning rate
        warmup: share of the steps in which the learning rate rises
        clip: largest norm of the whole gradient in a step
        snapshots: steps after which the projector is saved: numbers, and last
        checkpoint_seconds: seconds between checkpoints, from which an interrupted training goes on; 0: after each step
        track: where loss, learning rate and scores are shown while a run grows; decides nothing of it
    """

    steps: int = setting(300, at_least=0)
    epochs: float = setting(5.0, above=0)
    match_steps: bool = False
    batch: int = setting(32, at_least=1)
    order: str = setting("pictures", known=("pictures", "items"))
    lr: float = setting(1e-3, above=0)
    weight_decay: float = setting(0.0, at_least=0)
    warmup: float = setting(0.03, at_least=0, below=1)
    clip: float = setting(1.0, above=0)
    snapshots: tuple[str, ...] = setting(("0", "25", "50", "100", "200", "last"), spelled=step, numbers=True)
    checkpoint_seconds: float = setting(20.0, at_least=0)
    track: str = setting("none", known=("none", "tensorboard", "wandb", "trackio"))


@dataclass(frozen=True)
class CaptureConfig:
    """The activations that are written to disk, and the steps of training at which they are.

    Attributes:
        at: steps of training after which activations are captured: numbers, and last
        sites: hook_embed, blocks.LAYERS.POINT (* for all layers) or ln_final.hook_normalized, in TransformerLens' words
        spans: token positions: slot (the picture or noun), cue (behind it), last; :mean or :last of their tokens,
            :all for a row of each
        pictures_per_leaf: largest number of test pictures of each leaf concept, a seeded draw; 0: all
        dtype: number type on disk
    """

    at: tuple[str, ...] = setting(("0", "last"), spelled=step, numbers=True)
    sites: tuple[str, ...] = setting(
        ("hook_embed", "blocks.*.hook_resid_post", "ln_final.hook_normalized"),
        spelled=site_pattern,
        needed=True,
    )
    spans: tuple[str, ...] = setting(("slot", "cue", "last"), known=_SPANS, needed=True)
    pictures_per_leaf: int = setting(2, at_least=0)
    dtype: str = setting("float16", known="probing.store.shard_files:DTYPES")


@dataclass(frozen=True)
class EvaluateConfig:
    """The test pictures and templates of evaluation, and the width of the leaf-naming question.

    Attributes:
        pictures_per_leaf: largest number of test pictures of each leaf concept, a seeded draw; 0: all
        templates: wordings of the test questions, averaged and apart; empty: the first of training
        leaf_choices: names among which the shown leaf is to be named; chance is one in this number
    """

    pictures_per_leaf: int = setting(0, at_least=0)
    templates: tuple[str, ...] = setting((), known=_TEMPLATES)
    leaf_choices: int = setting(20, at_least=2)


GROUPS = {
    "data": DataConfig,
    "model": ModelConfig,
    "train": TrainConfig,
    "capture": CaptureConfig,
    "evaluate": EvaluateConfig,
}
"""The tables of a config in TOML; `name` and `seed` stand before them."""
