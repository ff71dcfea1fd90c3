import tomllib

import pytest

from taxogen.runs import config


def test_a_typo_names_the_nearest_known_key():
    with pytest.raises(KeyError, match=r"'train\.stepz' is not known; did you mean 'train\.steps'"):
        config.read(None, ["train.stepz=3"])


def test_a_value_of_the_wrong_type_names_key_and_type():
    with pytest.raises(ValueError, match=r"'train\.steps' takes a value of type int, found 'many'"):
        config.read(None, ["train.steps=many"])


def test_a_setting_without_equals_sign_is_refused():
    with pytest.raises(ValueError, match="written key=value"):
        config.read(None, ["train.steps"])


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m taxogen config"):
        config.read(tmp_path / "none.toml")


def test_the_printed_config_reads_back_to_itself(tmp_path):
    wanted = config.read(None, ["data.held_out=bird, tool", "train.lr=0.01", "name=x", "seed=3"])
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(wanted))
    assert config.read(path) == wanted
    assert wanted.data.held_out == ("bird", "tool")
    assert tomllib.loads(path.read_text())["train"]["lr"] == 0.01


def test_command_line_settings_win_over_the_file(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[train]\nsteps = 7\nbatch = 9\n")
    found = config.read(path, ["train.steps=8"])
    assert (found.train.steps, found.train.batch) == (8, 9)


def test_the_hash_knows_what_decides_the_weights():
    plain = config.Config()
    for same in ("name=other", "capture.at=0", "evaluate.draws=5", "train.checkpoint_seconds=1"):
        assert config.read(None, [same]).hash == plain.hash
    for other in ("seed=1", "data.shuffle=within", "model.init=random", "train.steps=5"):
        assert config.read(None, [other]).hash != plain.hash
