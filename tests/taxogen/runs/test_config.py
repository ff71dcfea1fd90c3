"""Config: reading, overriding and writing settings; the hash that says which runs are the same."""

import json
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from probing.store import MismatchError
from taxogen.models import lms, projectors
from taxogen.runs import config, presets, relations
from taxogen.runs.config import Config, DataConfig
from taxogen.runs.config.reference import to_toml
from taxogen.runs.run import Run

HASHES = {
    "default": ("default", (), "735b38f776707ffe"),
    "study": ("study", (), "fe865c8d6850d81e"),
    "study random": ("study", ("data.ablation=random", "data.fraction=.5"), "c18907aa19878154"),
    "study systematic": (
        "study",
        ("data.ablation=systematic", "data.held_out=bird,tool"),
        "2fed870c7ac68af2",
    ),
    "study none": ("study", ("data.ablation=none",), "1f5ccb81bde9657f"),
    "matched": (
        "default",
        ("data.ablation=random", "data.fraction=.5", "train.steps=0", "train.match_steps=true"),
        "c6190f1e08b5e726",
    ),
    "chat": (
        "default",
        ("data.task=yes_no", "data.negatives=hard", "data.chat=true"),
        "41ae9413cab15843",
    ),
    "across": ("default", ("data.shuffle=across", "seed=3"), "a4326e17839d339d"),
    "linear": (
        "default",
        ("model.projector=flat-linear", "model.init=random", "model.dtype=float32", "model.encoder_tokens=4"),
        "ed0cfee5a757dc96",
    ),
    "recipe": (
        "default",
        (
            *("train.steps=0", "train.epochs=3", "train.lr=1e-2", "train.weight_decay=.1"),
            *("train.warmup=0", "train.clip=.5", "train.batch=8"),
        ),
        "c470c3e2a2e0d103",
    ),
    "few": (
        "default",
        ("data.leaves=60", "data.pictures_per_leaf=5", "data.templates=kind,called", "data.split=leaf"),
        "0a253a596c3cd880",
    ),
}
"""Preset, settings, and the hash that such runs had before settings had ranges."""


def test_the_printed_config_reads_back_to_itself(tmp_path):
    own = ["data.ablation=systematic", "data.held_out=bird, tool", "train.lr=0.01", "name=x", "seed=3"]
    wanted = config.read(None, own)
    path = tmp_path / "config.toml"
    path.write_text(to_toml(wanted))
    assert config.read(path) == wanted
    assert wanted.data.held_out == ("bird", "tool")
    assert tomllib.loads(path.read_text())["train"]["lr"] == 0.01


def test_command_line_settings_win_over_the_file(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[train]\nsteps = 7\nbatch = 9\n")
    changed = config.read(path, ["train.steps=8"])
    assert (changed.train.steps, changed.train.batch) == (8, 9)


def test_the_hash_knows_what_decides_the_weights():
    plain = Config()
    for same in (
        "name=other",
        "capture.at=0",
        "evaluate.leaf_choices=5",
        "train.checkpoint_seconds=1",
        "train.track=wandb",
    ):
        assert config.read(None, [same]).hash == plain.hash
    for other in ("seed=1", "data.shuffle=within", "model.init=random", "train.steps=5"):
        assert config.read(None, [other]).hash != plain.hash


@pytest.mark.parametrize(("preset", "own", "digest"), HASHES.values(), ids=HASHES)
def test_a_hash_stays_what_it_was(preset, own, digest):
    assert config.read(None, (*own, "train.order=items"), presets.preset(preset)).hash == digest


def test_minus_zero_is_zero():
    own = ("data.ablation=random", "data.fraction=0")
    assert config.read(None, (*own[:1], "data.fraction=-0")).hash == config.read(None, own).hash


def test_help_and_a_config_need_no_torch():
    script = (
        "import sys; from taxogen.runs import config; light = 'pandas' not in sys.modules; "
        "config.read(None, ['data.task=yes_no']); print(light, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "False"]


def test_names_that_stand_in_torch_modules_are_those_of_the_config():
    known = config.catalogue()
    assert known["model.init"].takes.known == lms.INITS
    assert [kind for kind in projectors.PROJECTORS if not kind.startswith("flat-")] == [
        *relations.OF_EACH_TOKEN
    ]
    for kind in projectors.PROJECTORS:
        sizes = [
            sum(
                value.numel()
                for value in projectors.Projector(kind, (1, 2), (1, 2), hidden, 1.0).parameters()
            )
            for hidden in (3, 4)
        ]
        assert (sizes[0] == sizes[1]) == (kind in relations.WITHOUT_HIDDEN)


@pytest.mark.parametrize("name", ["gelu-mlp", "linear"])
def test_projectors_of_an_older_run_flattened_and_its_hash_is_as_it_was(name):
    older = config.read(None, [f"model.projector=flat-{name}"]).to_dict()
    older["model"]["projector"] = name
    for key in ("standardise", "normalise", "token_scale"):
        del older["model"][key]
    read = config.from_dict(older)
    assert read == config.read(None, [f"model.projector=flat-{name}"])
    now = config.read(None, [f"model.projector={name}", "model.image_tokens=1"])
    assert config.from_dict(now.to_dict()) == now
    assert now.hash != config.read(None, [f"model.projector=flat-{name}", "model.image_tokens=1"]).hash


def test_an_older_run_may_have_a_setting_that_is_retired():
    content = config.read(None, ["seed=3"]).to_dict()
    content["evaluate"]["draws"] = 2000
    assert config.from_dict(content) == config.read(None, ["seed=3"])
    del content["train"]["order"]  # items were shuffled one by one then
    older = config.read(None, ["seed=3", "train.order=items"])
    assert config.from_dict(content) == older
    assert config.from_dict({"seed": 3, "data": {}, "evaluate": {"draws": 9}}) == older
    content["evaluate"]["drawz"] = 2000
    with pytest.raises(KeyError, match=r"'evaluate\.drawz' is not known"):
        config.from_dict(content)


SHUFFLES = [
    ("across", False, "across-plain", "5967e755a20be0d4"),
    ("across", True, "across", "d9fbcaf5183cbfba"),
    ("across-matched", False, "across-plain-matched", "34c59412a48dcc07"),
    ("across-matched", True, "across-matched", "b8dcd4dfe44945c6"),
    ("within", False, "within", "69b49df89f99be27"),
    ("none", False, "none", "e18ee2f0bdd02e5a"),
]
"""Kind of shuffle and `data.disjoint` of an older run, today's kind, and the hash that such runs had then."""


@pytest.mark.parametrize(("kind", "disjoint", "now", "digest"), SHUFFLES)
def test_an_older_run_is_read_as_the_kind_of_shuffle_that_it_had(kind, disjoint, now, digest, tmp_path):
    older = Config().to_dict()
    del older["data"]["coherence"]
    older["data"] |= {"shuffle": kind, "disjoint": disjoint}
    wanted = config.read(None, [f"data.shuffle={now}"])
    assert config.from_dict(older) == wanted
    assert config.from_dict(wanted.to_dict()) == wanted
    assert wanted.hash == digest
    if not disjoint:  # the first runs had no such setting
        del older["data"]["disjoint"]
        assert config.from_dict(older) == wanted
    (tmp_path / "config.json").write_text(json.dumps(older))
    (tmp_path / "run.json").write_text("{}")
    assert Run.create(tmp_path, wanted).config_saved
    assert Run.open(tmp_path).config.data.shuffle == now
    for _, _, other, _ in SHUFFLES:
        if other != now:
            with pytest.raises(MismatchError, match=f"data.shuffle: asked '{other}', found '{now}'"):
                Run.create(tmp_path, config.read(None, [f"data.shuffle={other}"]))


def test_a_dose_of_coherence_is_another_run():
    hashes = {
        config.read(None, ["data.shuffle=graded", f"data.coherence={dose}"]).hash for dose in (0.25, 0.5)
    }
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"a config is a table of settings, found \[\]"),
        ({"seed": "3"}, "'seed' takes a whole number .*'3'"),
    ],
)
def test_a_run_s_own_file_is_read_as_strictly(content, message):
    with pytest.raises(ValueError, match=message):
        config.from_dict(content)


def test_a_config_in_python_is_checked_too():
    with pytest.raises(ValueError, match=r"'data\.fraction' takes a number of at least 0 .*, found 2"):
        Config(data=DataConfig(ablation="random", fraction=2))
    with pytest.raises(ValueError, match=r"'data\.held_out' takes a list of texts, found \['bird'\]"):
        Config(data=DataConfig(ablation="systematic", held_out=["bird"]))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="takes entries without blanks around them, found ' bird'"):
        Config(data=DataConfig(ablation="systematic", held_out=(" bird",)))
    with pytest.raises(ValueError, match="'seed' takes a whole number"):
        Config(seed=np.int64(3))  # pyright: ignore[reportArgumentType]
