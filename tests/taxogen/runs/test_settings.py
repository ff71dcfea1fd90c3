"""Settings: what each takes. Refused ones say in one line what was words, what was found and what is allowed."""

import json
import math
import pkgutil
import random

import pytest

from taxogen.runs import config, presets
from taxogen.runs.config.reference import to_toml
from taxogen.runs.setting import Setting
from tests.taxogen.runs.refusals import refusal

RANDOM = ("data.ablation=random",)
REFUSED = [
    # Ranges.
    ("train.clip=0", "'train.clip' takes a number above 0, found 0.0"),
    ("train.clip=-1", "'train.clip' takes a number above 0, found -1.0"),
    ("train.warmup=1", "'train.warmup' takes a number of at least 0 and below 1, found 1.0"),
    ("train.warmup=-.1", "'train.warmup' takes a number of at least 0 and below 1, found -0.1"),
    ("train.steps=-1", "'train.steps' takes a whole number of at least 0, found -1"),
    ("train.epochs=0", "'train.epochs' takes a number above 0, found 0.0"),
    ("train.batch=0", "'train.batch' takes a whole number of at least 1, found 0"),
    ("train.lr=0", "'train.lr' takes a number above 0, found 0.0"),
    ("train.weight_decay=-1e-3", "'train.weight_decay' takes a number of at least 0, found -0.001"),
    ("train.checkpoint_seconds=-1", "'train.checkpoint_seconds' takes a number of at least 0, found -1.0"),
    ("model.hidden=-1", "'model.hidden' takes 0 or a whole number of at least 1, found -1"),
    ("model.image_tokens=0", "'model.image_tokens' takes a whole number of at least 1, found 0"),
    ("model.encoder_tokens=-4", "'model.encoder_tokens' takes a whole number of at least 1, found -4"),
    ("evaluate.leaf_choices=1", "'evaluate.leaf_choices' takes a whole number of at least 2, found 1"),
    ("evaluate.pictures_per_leaf=-1", "'evaluate.pictures_per_leaf' takes a whole number of at least 0"),
    ("capture.pictures_per_leaf=-1", "'capture.pictures_per_leaf' takes a whole number of at least 0"),
    ("data.leaves=-1", "'data.leaves' takes 0 or a whole number of at least 2, found -1"),
    ("data.leaves=1", "'data.leaves' takes 0 or a whole number of at least 2, found 1"),
    ("data.pictures_per_leaf=1", "'data.pictures_per_leaf' takes 0 or a whole number of at least 2, found 1"),
    (("data.fraction=1.1", *RANDOM), "'data.fraction' takes a number of at least 0 and at most 1, found 1.1"),
    (
        ("data.fraction=-.1", *RANDOM),
        "'data.fraction' takes a number of at least 0 and at most 1, found -0.1",
    ),
    ("seed=-1", "'seed' takes a whole number of at least 0, found -1"),
    ("seed=9223372036854775808", "'seed' takes a whole number of at least 0, found '9223372036854775808'"),
    # Numbers that are none.
    ("train.lr=nan", "'train.lr' takes a number above 0, found 'nan'"),
    ("train.epochs=inf", "'train.epochs' takes a number above 0, found 'inf'"),
    ("train.weight_decay=1e999", "'train.weight_decay' takes a number of at least 0, found '1e999'"),
    ("train.steps=many", "'train.steps' takes a whole number of at least 0, found 'many'"),
    ("train.steps=1.5", "'train.steps' takes a whole number of at least 0, found '1.5'"),
    ("train.steps=true", "'train.steps' takes a whole number of at least 0, found 'true'"),
    ("train.steps=", "'train.steps' takes a whole number of at least 0, found ''"),
    ("data.chat=1", "'data.chat' takes true or false, found '1'"),
    ("data.chat=yes", "'data.chat' takes true or false, found 'yes'"),
    # Names.
    ("data.task=yesno", "data.task 'yesno' was asked for; known: completion, yes_no; did you mean 'yes_no'?"),
    (("data.negatives=rand", "data.task=yes_no"), "known: random, hard, study; did you mean 'random'?"),
    (
        "data.split=leafs",
        "data.split 'leafs' was asked for; known: seeded, study, leaf, source; did you mean 'leaf'?",
    ),
    ("data.ablation=all", "data.ablation 'all' was asked for; known: none, full, random, systematic"),
    (
        "data.shuffle=accross",
        "data.shuffle 'accross' was asked for; known: none, within, category, graded, across,",
    ),
    ("data.rule=pair", "data.rule 'pair' was asked for with data.ablation=full; known: holdout, study"),
    (
        ("data.rule=holdout", *RANDOM),
        "'holdout' was asked for with data.ablation=random; known: pair, leaf, study",
    ),
    ("model.init=none", "model.init 'none' was asked for; known: pretrained, random, pretrained-embeddings"),
    ("model.dtype=bf16", "model.dtype 'bf16' was asked for; known: auto, float32, bfloat16, float16"),
    ("model.dtype=nn", "model.dtype 'nn' was asked for; known: auto, float32"),
    (
        "model.feature_dtype=auto",
        "model.feature_dtype 'auto' was asked for; known: float32, bfloat16, float16",
    ),
    (
        "capture.dtype=float64",
        "capture.dtype 'float64' was asked for; known: float32, float16, bfloat16; did you",
    ),
    ("data.templates=kinds", "data.templates 'kinds' was asked for; known: kind, type, the_kind"),
    ("evaluate.templates=type,typ", "evaluate.templates 'typ' was asked for; known: kind, type"),
    (
        "capture.spans=slots",
        "capture.spans 'slots' was asked for; known: slot, slot:mean, slot:last, slot:all",
    ),
    ("capture.spans=slot:max", "capture.spans 'slot:max' was asked for; known: slot, slot:mean"),
    ("capture.spans=image", "capture.spans 'image' was asked for; known: slot"),
    ("capture.spans=slot,slot:last", "takes one pooling of a span, found 'slot' twice in slot, slot:last"),
    ("capture.spans=", "'capture.spans' takes a list of texts that is not empty, found ()"),
    ("capture.sites=", "'capture.sites' takes a list of texts that is not empty, found ()"),
    ("capture.sites=hook_embd", "'capture.sites' takes patterns of sites (hook_embed, blocks.*.POINT"),
    ("capture.sites=blocks.*.hook_resid", "hook_resid_post), found 'blocks.*.hook_resid'"),
    ("capture.at=0,first", "'capture.at' takes numbers of steps such as 0 and 50, and 'last', found 'first'"),
    ("capture.at=-1", "'capture.at' takes numbers of steps such as 0 and 50, and 'last', found '-1'"),
    ("capture.at=²", "'capture.at' takes numbers of steps such as 0 and 50, and 'last', found '²'"),
    (
        "train.snapshots=0.5",
        "'train.snapshots' takes numbers of steps such as 0 and 50, and 'last', found '0.5'",
    ),
    ("train.snapshots=last,last", "'train.snapshots' names 'last' twice"),
    (("data.held_out=bird,bird", "data.ablation=systematic"), "'data.held_out' names 'bird' twice"),
    ("data.pictures=", "'data.pictures' takes a text that is not empty, found ''"),
    ("model.lm=", "'model.lm' takes a text that is not empty, found ''"),
    (
        "data.pictures=a\nb",
        "'data.pictures' takes text of at most 4096 characters in one line, found 'a\\nb'",
    ),
    ("name=../x", "'name' takes a name of at most 128 of the characters a-z, A-Z, 0-9 and ._+=-"),
    ("name=", "found ''"),
    ("name=.hidden", "that begins with neither . nor -, found '.hidden'"),
    # Keys.
    ("train.stepz=3", "config key 'train.stepz' is not known; did you mean 'train.steps'?"),
    ("zzz=3", "config key 'zzz' is not known; known: capture.at, capture.dtype"),
    ("data=3", "config key 'data' is not known"),
    ("evaluate.draws=5", "config key 'evaluate.draws' is retired: nothing ever read it"),
    ("train.steps", "--set 'train.steps': a setting is written key=value, such as train.steps=100"),
]
ACCEPTED = [
    ("train.steps=0", 0),
    ("train.steps=1_000", 1000),
    (("train.epochs=.5", "train.steps=0"), 0.5),
    ("train.lr=1e-3", 1e-3),
    ("train.warmup=0", 0.0),
    ("train.checkpoint_seconds=0", 0.0),
    ("train.snapshots=", ()),
    ("train.snapshots=0, 7,last", ("0", "7", "last")),
    ("seed=9223372036854775807", 2**63 - 1),
    ("name=fractions_seed-0_fraction-.5+x=1", "fractions_seed-0_fraction-.5+x=1"),
    ("data.chat=True", True),
    ("data.leaves=0", 0),
    ("data.leaves=2", 2),
    ("data.rule=study", "study"),
    (("data.rule=study", "data.ablation=none"), "study"),
    (("data.rule=leaf", *RANDOM), "leaf"),
    (("data.fraction=0", *RANDOM), 0.0),
    (("data.fraction=1", *RANDOM), 1.0),
    (("data.fraction=.5", "data.ablation=systematic"), 0.5),
    (("data.held_out=bird, tool", "data.ablation=systematic"), ("bird", "tool")),
    (("data.coherence=.25", "data.shuffle=graded"), 0.25),
    (("data.negatives=study", "data.task=yes_no"), "study"),
    (("train.match_steps=true", "train.steps=0"), True),
    (("model.hidden=1024", "model.projector=flat-linear"), 1024),
    ("model.projector=a-later-one", "a-later-one"),
    ("data.templates=the_kind,known_as", ("the_kind", "known_as")),
    ("capture.at=", ()),
    ("capture.at=0,50,last", ("0", "50", "last")),
    ("capture.pictures_per_leaf=0", 0),
    ("capture.spans=slot:all,cue:last,last", ("slot:all", "cue:last", "last")),
    (
        "capture.sites=blocks.0-11.attn.hook_z,blocks.3?.hook_resid_*,blocks.*.attn.hook_pattern",
        ("blocks.0-11.attn.hook_z", "blocks.3?.hook_resid_*", "blocks.*.attn.hook_pattern"),
    ),
    ("model.feature_dtype=bfloat16", "bfloat16"),
    ("data.taxonomy=", ""),
    ("data.pictures=/some where/ö", "/some where/ö"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_a_setting_without_sense_is_refused_in_one_line(words, message):
    assert message in refusal(config.read, None, [words] if isinstance(words, str) else words)


@pytest.mark.parametrize(("words", "value"), ACCEPTED)
def test_a_setting_with_sense_is_accepted(words, value, tmp_path):
    words = [words] if isinstance(words, str) else words
    flat = dict(config.flatten(config.read(None, words).to_dict()))
    assert flat[words[0].partition("=")[0]] == value
    assert type(flat[words[0].partition("=")[0]]) is type(value)
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config.from_flat(flat)), encoding="utf-8")
    assert config.read(path) == config.read(None, words)


def test_every_preset_is_a_config():
    for name, flat in presets.PRESETS.items():
        assert config.read(None, (), flat).name == name


def draw(rng: random.Random, one: Setting) -> object:
    """A value for a setting: one of its own kind, likely or not, or any other."""
    numbers = [-1, 0, 1, 2, 7, 0.5, -0.0, 1.0, 1e-9, math.nan, math.inf, 2**63, 10**30, True, False]
    words = [
        "",
        "last",
        "0",
        "1.5",
        "true",
        "random",
        "study",
        "full",
        "none",
        "across",
        "yes_no",
        "kind",
        "a/b",
    ]
    words += [
        "systematic",
        "linear",
        "slot",
        "cue:all",
        "bird",
        "hook_embed",
        "is_there",
        "ä\u2028",
        "float16",
    ]
    lists = [[], ["0", "last"], ["bird"], ["bird", "bird"], [["bird"]], [3], ["slot", "last:all"], ["kind"]]
    others = {bool: [True, False, 1], str: words, tuple: lists}.get(type(one.default), numbers)
    known = one.takes.known if isinstance(one.takes.known, tuple) else pkgutil.resolve_name(one.takes.known)
    likely = [1, 2, 3, 0.5] if isinstance(one.default, (int, float)) else [*known, one.default]
    likely = [[name] for name in known] or likely if isinstance(one.default, tuple) else likely
    return rng.choice(
        rng.choice([likely, likely, likely, likely, others, [*numbers, *words, *lists, {}, None]])
    )


def test_settings_drawn_at_random_are_refused_by_name_or_read_back(tmp_path):
    catalogue, path, accepted = config.catalogue(), tmp_path / "config.toml", 0
    for seed in range(100):
        rng = random.Random(seed)
        keys = rng.sample(sorted(catalogue), rng.choice([1, 2, 3]))
        flat = {key: draw(rng, catalogue[key]) for key in keys}
        try:
            result, message = config.from_flat(flat), ""
        except (ValueError, KeyError) as error:
            result, message = None, error.args[0]
        if result is None:
            assert len(message.splitlines()) == 1
            assert any(key in message for key in flat)
            continue
        accepted += result != config.Config()
        path.write_text(to_toml(result), encoding="utf-8")
        for again in (config.read(path), config.from_dict(json.loads(json.dumps(result.to_dict())))):
            assert again == result
            assert again.hash == result.hash
    assert 20 <= accepted <= 80
