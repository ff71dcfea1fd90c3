"""Plan files: every run once, with a name that says what it is; refusals name nearest key, file and line."""

import re

import pytest

from analyses.study import asking
from taxogen.runs.names import plain_name
from taxogen.stages.sweeping import plan_file
from tests.taxogen.runs.refusals import refusal

PLAN = """\
name = "study"
seeds = [0, 7]

[common]
data.pictures_per_leaf = 6
train.steps = 20

[questions]
layer-probes = { span = ["cue"], step = "last", draws = 50 }
cohesion = {}

[seconds]
train = 100
layer-probes = 10

[equivalence]
auroc = 0.03

[groups.full]
about = "everything removed"
vary.model.init = ["pretrained", "random"]

[groups.random]
[groups.random.cases]
"0" = { data.ablation = "random", data.fraction = 0.0 }
".5" = { data.ablation = "random", data.fraction = 0.5 }
"1" = { data.ablation = "full" }
[groups.random.vary]
model.init = ["pretrained", "random"]

[groups.shuffle]
seeds = [0]
settings.train.batch = 8
vary.data.shuffle = ["none", "within"]
"""


@pytest.fixture
def read(tmp_path):
    def read(text=PLAN, overrides=(), only=()):
        path = tmp_path / "plan.toml"
        path.write_text(text, encoding="utf-8")
        return plan_file.read(path, overrides, only, asking.check)

    return read


def test_equal_runs_of_two_groups_are_one_under_the_name_of_the_first(read):
    plan = read()
    assert list(plan.runs)[:2] == ["study-full-pretrained-0", "study-full-pretrained-7"]
    assert len(plan.runs) == 4 + 8 + 2
    random = plan.groups["random"].runs
    assert len(random) == 12
    assert [name for name in random if name in plan.groups["full"].runs] == list(plan.groups["full"].runs)
    assert random["study-random.5-random-7"] == ".5 · random"
    assert random["study-full-random-7"] == "1 · random"
    assert not set(plan.groups["shuffle"].runs) & set(plan.groups["full"].runs), (
        "another batch is another run"
    )


def test_runs_have_the_settings_of_their_group_and_plain_names(read):
    plan = read()
    for name, run in plan.runs.items():
        assert plain_name(name, "name") == run.name == f"{plan.conditions[name]}-{run.seed}"
        assert (run.data.pictures_per_leaf, run.train.steps) == (6, 20)
    assert plan.runs["study-random.5-random-7"].data.fraction == 0.5
    assert plan.runs["study-random.5-random-7"].model.init == "random"
    assert plan.runs["study-shuffle-within-0"].train.batch == 8
    assert plan.stages == ("train", "evaluate", "layer-probes", "cohesion")
    assert plan.equivalence == {"auroc": 0.03}
    assert plan.seconds == {"train": 100, "layer-probes": 10}


def test_a_plan_is_asked_of_another_model_one_seed_or_one_group(read):
    other = read(overrides=("model.lm=some.gguf", "name=second", "seed=3"), only=("full",))
    assert list(other.runs) == ["second-full-pretrained-3", "second-full-random-3"]
    assert {run.model.lm for run in other.runs.values()} == {"some.gguf"}
    assert list(other.groups) == ["full"]
    everything = read(overrides=("train.batch=4",))
    assert {run.train.batch for run in everything.runs.values()} == {4}


@pytest.mark.parametrize("group", ["full", "random", "shuffle"])
def test_a_group_alone_has_the_runs_that_it_has_in_the_whole_plan(read, group):
    """Else they would be made twice, and the second ones never collected."""
    plan, alone = read(), read(only=(group,))
    assert alone.groups == {group: plan.groups[group]}
    assert alone.runs == {name: plan.runs[name] for name in plan.runs if name in plan.groups[group].runs}
    assert alone.conditions == {name: plan.conditions[name] for name in alone.runs}


@pytest.mark.parametrize(("first", "second"), [([0], [0, 1, 2]), ([0, 1], [1, 2]), ([2], [0, 1])])
def test_equal_runs_at_other_seeds_of_another_group_are_of_one_condition(read, first, second):
    """Else the seeds of one label would be two conditions, of which a contrast takes one."""
    plan = read(
        f'name = "study"\n[groups.full]\nseeds = {first}\nvary.model.init = ["pretrained", "random"]\n'
        f'[groups.shuffle]\nseeds = {second}\nvary.data.shuffle = ["none", "within"]\n'
    )
    shuffle = plan.groups["shuffle"].runs
    for label, condition in (("none", "study-full-pretrained"), ("within", "study-shuffle-within")):
        names = [name for name in shuffle if shuffle[name] == label]
        assert names == [f"{condition}-{seed}" for seed in second]
        assert {plan.conditions[name] for name in names} == {condition}
    assert [plan.runs[name].seed for name in plan.groups["full"].runs] == first * 2
    assert all(run.name == name for name, run in plan.runs.items())


@pytest.mark.parametrize("setting", ["model.init=random", "data.ablation=full", "data.shuffle=across"])
def test_a_setting_that_runs_are_named_after_is_not_given_to_all(read, setting):
    said = refusal(read, PLAN, (setting,))
    assert f"--set {setting.partition('=')[0]} was given, but runs of this group are named after" in said


@pytest.mark.parametrize(
    ("text", "changed", "line", "message"),
    [
        ("seeds =", "seed =", 2, "plan key 'seed' is not known; did you mean 'seeds'?"),
        ("[common]", "[comon]", 4, "plan key 'comon' is not known; did you mean 'common'?"),
        (
            "train.steps = 20",
            "train.stepps = 20",
            6,
            "'train.stepps' is not known; did you mean 'train.steps'?",
        ),
        ("train.steps = 20", "train.steps = 2.5", 6, "config key 'train.steps' takes a whole number"),
        ("train.steps = 20", "seed = 2", 6, "seed is not given here: `seeds` lists them"),
        ("train.steps = 20", "evaluate.draws = 2", 6, "config key 'evaluate.draws' is retired"),
        (
            "layer-probes = {",
            "layer-prober = {",
            9,
            "'layer_prober' was asked for; did you mean 'layer_probes'?",
        ),
        ("span =", "spam =", 9, "layer-probes has no option 'spam'; did you mean 'span'?"),
        ("draws = 50", "draws = 'many'", 9, "argument --draws: invalid int value: 'many'"),
        ("cohesion = {}", "behaviour = {}", 10, "behaviour is asked of all runs together"),
        (
            "[seconds]",
            "[together]\ncohesion = {}\n[seconds]",
            13,
            "cohesion is not asked of all runs together",
        ),
        ("[seconds]", "[together]\nbehavior = {}\n[seconds]", 13, "did you mean 'behaviour'?"),
        ("[seconds]", "[together]\nbehaviour = { drawz = 9 }\n[seconds]", 13, "did you mean 'draws'?"),
        ("[seconds]", "[together]\nreport = { draws = 9 }\n[seconds]", 13, "the report has no options"),
        (
            "[seconds]",
            "[resources]\ngpu = 1\n[seconds]",
            13,
            "resources key 'gpu' is not known; did you mean 'gpus'?",
        ),
        ("[seconds]", "[resources]\ngpus = 0\n[seconds]", 13, "resources.gpus is a number above 0, found 0"),
        ("train = 100", "trian = 100", 13, "seconds key 'trian' is not known; did you mean 'train'?"),
        ("train = 100", "train = 0", 13, "seconds.train is a number above 0, found 0"),
        (
            '["cue"]',
            '["nowhere"]',
            9,
            "asked at span 'nowhere', but study-full-pretrained-0 captures slot, cue, last",
        ),
        ('"last"', '"soon"', 9, "layer-probes is asked of step 'soon'; give the number of a step, or last"),
        (
            '"last"',
            "[19]",
            9,
            "is asked of step 19, but study-full-pretrained-0 captures 0, 20; add it to capture.at",
        ),
        ("cohesion = {}", 'cohesion = { span = "picture" }', 10, "cohesion is asked at span 'picture'"),
        ("auroc = 0.03", "auroc = 0.5", 17, "equivalence.auroc is a number above 0 and below 0.5, found 0.5"),
        ("auroc = 0.03", "auroc = -0.03", 17, "is a number above 0 and below 0.5, found -0.03"),
        ("auroc = 0.03", "auroc = nan", 17, "is a number above 0 and below 0.5, found nan"),
        ("auroc = 0.03", "auroc = inf", 17, "is a number above 0 and below 0.5, found inf"),
        ("auroc = 0.03", "leaf_naming = 0.03", 17, "'leaf_naming' is not known; known: auroc"),
        ("train = 100", "train = inf", 13, "seconds.train is a number above 0, found inf"),
        ("cohesion = {}", "layer_probes = {}", 10, "layer-probes is asked twice, as layer_probes too"),
        (
            'data.ablation = "full" }',
            'data.ablation = "full", model.init = "random" }',
            27,
            "model.init is given by a case and varies too; give it in one of them",
        ),
        (
            '"1" = {',
            '"one" = { data.ablation = "full" }\n"1" = {',
            23,
            "'one · pretrained' and '1 · pretrained' are",
        ),
        ("auroc = 0.03", "aurocs = 0.03", 17, "equivalence key 'aurocs' is not known; did you mean 'auroc'?"),
        ("vary.model", "varry.model", 21, "groups.full key 'varry' is not known; did you mean 'vary'?"),
        ('"random"]\n\n[groups.random]', '"rando"]\n\n[groups.random]', 21, "did you mean 'random'?"),
        (
            "data.fraction = 0.5",
            "data.fraction = 1.5",
            26,
            "'data.fraction' takes a number of at least 0 and at",
        ),
        (
            "data.fraction = 0.5",
            "data.held_out = ['x']",
            23,
            "'data.held_out' counts only with data.ablation=",
        ),
        ('["none", "within"]', '["none", "none"]', 34, "data.shuffle takes 'none' twice; once is enough"),
        ('["none", "within"]', '"none"', 34, "data.shuffle varies over a list of values, found 'none'"),
        ('["none", "within"]', "[]", 34, "data.shuffle varies over a list of values, found []"),
        ("seeds = [0]", "seeds = [0, 0]", 32, "seeds is a list of different whole numbers"),
        ("seeds = [0]", "seeds = [-1]", 32, "'seed' takes a whole number of at least 0, found -1"),
        ("[groups.full]", '[groups."a b"]', 19, "a group takes a name of at most 128 of the characters"),
        ('name = "study"', "name = 3", 1, "name is a text, found 3"),
        ('name = "study"', 'name = "a/b"', 1, "name takes a name of at most 128 of the characters"),
        ("auroc = 0.03", "auroc = ", 17, "Invalid value"),
    ],
)
def test_a_plan_with_a_fault_is_refused_with_its_line(read, text, changed, line, message):
    assert text in PLAN
    said = refusal(read, PLAN.replace(text, changed, 1))
    assert re.match(rf"plan .*plan\.toml, line {line}: ", said), said
    assert message in said


@pytest.mark.parametrize(
    ("text", "changed", "message"),
    [
        ('name = "study"\n', "", "gives no name"),
        (PLAN[PLAN.index("[groups.full]") :], "", "has no group of runs; give a table [groups.NAME]"),
    ],
)
def test_a_plan_that_lacks_something_is_refused(read, text, changed, message):
    assert message in refusal(read, PLAN.replace(text, changed))


def test_runs_that_would_have_one_name_are_refused(read):
    twice = PLAN.replace(
        '["none", "within"]', '["none", "within"]\n[groups.shuffle-within]\nsettings.train.lr = 0.1'
    )
    assert "two runs would be called study-shuffle-within-0" in refusal(read, twice)


def test_an_unknown_group_is_refused_with_the_nearest(read):
    assert "group 'randon' was asked for; did you mean 'random'?" in refusal(read, PLAN, (), ("randon",))


def test_a_plan_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"plan .*none\.toml was asked for, but there is no such file"
    ):
        plan_file.read(tmp_path / "none.toml")
