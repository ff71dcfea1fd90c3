"""Folders of results, over all analyses: another question lies in another folder, another extent in the same."""

import itertools
import shlex
import typing
from dataclasses import replace
from pathlib import Path

import pytest

from analyses.frame import command_line, registry
from analyses.frame.command_line import ASKS, EXTENT, NAME, PARTNER, TABLE, flags_of, role_of
from analyses.frame.wording import LONGEST, folder_name, plain, spelled
from taxogen.runs.names import plain_name

NAMES = tuple(registry.questions())
EXTENTS = {
    "behaviour": {"published"},
    "circuits": {"leaves", "members", "random", "shares", "tested", "width"},
    "cohesion": {"steps", "spans", "treatments"},
    "emergence": set(),
    "erasure": {
        *("hypernyms", "count", "layers", "spans", "each", "others", "folds", "controls"),
        *("doses", "directions", "matches"),
    },
    "geometry": {"steps", "spans", "map_layers"},
    "interchange": {
        *("controls", "folds", "layers", "methods", "pairs", "ranks", "spans", "steps", "tested", "trained"),
        *("trained_controls", "training_pairs"),
    },
    "knockout": {"paths", "width", "leaves", "placebos"},
    "layer_probes": {"step", "spans", "transforms", "folds", "controls", "shuffled", "code", "device"},
    "lens": {"every", "leaves", "folds", "modalities", "lenses", "jacobian_rows"},
    "lm_knowledge": {"readouts"},
    "mediation": {"snapshots", "pictures"},
    "patching": {"spans", "questions", "kinds", "pairs", "sampled", "natural"},
    "picture_maps": {"leaf", "picture", "maps", "layer", "leaves", "heads", "integrated"},
    "pooling": {"contrasts"},
    "published": {"data"},
    "sparse_features": {"dictionary", "folds", "permutations", "sites", "spans", "steps", "top"},
    "text_alignment": {"steps", "spans", "treatments"},
    "visual_coherence": {"rules"},
}
"""Options that say how many, how finely, of which rows or on which device: they do not lead to another folder."""
DANGEROUS = ("../x", "a/b", "/etc", "a b", "a-b", "é", ".hidden", "x" * 300, "-", "none")


def others(name, field):
    """Values of an option that are not its default."""
    hints = typing.get_type_hints(registry.load(name).options)
    kind, several = command_line._kind(hints[field.name])
    choices = field.metadata["flag"]["choices"]
    if kind is bool:
        return [not field.default]
    single = {
        int: [1_001, 1_002],
        float: [0.123, -4.0],
        str: [*DANGEROUS, "word", field.name],
        Path: [Path("a"), Path("b/a"), Path("c-a")],
    }[kind]
    single = [value for value in choices or single if value != field.default]
    if not several:
        return single
    pairs = [tuple(pair) for pair in itertools.pairwise(choices or single)]
    return [value for value in [*((one,) for one in single), *pairs, ()] if value != field.default]


def varied(name):
    """Default options with one flag varied, by field and value."""
    default = registry.load(name).options()
    for field in flags_of(type(default)).values():
        for value in others(name, field):
            yield field, replace(default, **{field.name: value})


@pytest.mark.parametrize("name", NAMES)
def test_the_default_question_lies_in_the_folder_of_its_name_whatever_its_extent(name):
    assert folder_name(name, registry.load(name).options()) == name
    extents = set()
    for field, options in varied(name):
        if role_of(field) in (EXTENT, TABLE, NAME, PARTNER):
            assert folder_name(name, options) == name
        if role_of(field) == EXTENT:
            extents.add(field.name)
    assert extents - {"draws", "seed"} == EXTENTS[name]


@pytest.mark.parametrize("name", NAMES)
def test_another_question_has_a_folder_of_its_own_that_is_no_path(name):
    default = registry.load(name).options()
    asking = [(field.name, options) for field, options in varied(name) if role_of(field) == ASKS]
    questions = {name: default}
    for _, options in asking:
        folder = folder_name(name, options)
        assert plain_name(folder, "the folder") == folder
        assert len(folder) <= LONGEST
        assert questions.setdefault(folder, options) == options
    for (one, first), (other, second) in itertools.combinations(asking, 2):
        if one != other:
            both = replace(first, **{other: getattr(second, other)})
            assert questions.setdefault(folder_name(name, both), both) == both


@pytest.mark.parametrize("name", NAMES)
def test_options_with_a_table_of_their_own_name_it(name):
    analysis = registry.load(name)
    of_table = [(field.name, one) for field, one in varied(name) if role_of(field) in (TABLE, NAME)]
    names = [analysis.table_name_of(options) for _, options in of_table]
    assert len(set(names)) == len(names)
    assert analysis.table_name_of(analysis.options()) not in names


@pytest.mark.parametrize("name", NAMES)
def test_spelled_options_are_those_that_a_command_line_of_them_asks_for(name):
    analysis = registry.load(name)
    assert spelled(analysis.options, plain(analysis.options())) == ""
    parser = analysis.parser()
    for action in parser._actions:
        action.required = False
    for field, options in varied(name):
        value = getattr(options, field.name)
        texts = [str(one) for one in (value if isinstance(value, tuple) else (value,))]
        if value and not any(text.startswith("-") for text in texts):
            given = parser.parse_args(shlex.split(spelled(analysis.options, plain(options))))
            assert command_line.options_from(analysis.options, given) == options
