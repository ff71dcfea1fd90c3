"""Encoder features of a run's pictures: order, leaves, and that standardisation never sees a test picture."""

import numpy as np
import pytest

from analyses.inputs.encoder import encoder_rows
from taxogen.models.features import FeatureRows, features
from taxogen.runs import bench, prepare
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from tests.world import toy_config, write_world


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_lm):
    folder = tmp_path_factory.mktemp("toy_encoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        settings = write_world(folder, toy_lm)
        made = toy_config(settings, "data.shuffle=across", "model.encoder_tokens=4")
        yield open_bench(Run.create(folder / "run", made)).run


def test_rows_are_the_encoders_features_and_what_the_projector_sees(run):
    rows, world = encoder_rows(run), prepare.world(run)
    table = world.table.set_index("picture")
    assert rows.pictures.tolist() == sorted(table.index)
    assert rows.leaves.tolist() == table.loc[rows.pictures, "leaf"].tolist()
    assert (
        rows.leaves != table.loc[rows.pictures, "shown_leaf"]
    ).any()  # of the run's world, not of the file
    expected = features(world.pictures, run.config.model.encoder, rows.pictures.tolist(), 4)
    np.testing.assert_array_equal(rows.raw.numpy(), expected.numpy())
    np.testing.assert_array_equal(rows.pooled, expected.numpy().mean(axis=1))
    opened = open_bench(run)
    assert opened.world.table["picture"].tolist() == rows.pictures.tolist()
    np.testing.assert_array_equal(rows.standardised.numpy(), opened.features.numpy())


def test_standardisation_is_fitted_on_training_pictures_alone(run, monkeypatch):
    split = prepare.world(run).table.set_index("picture")["split"]
    before = encoder_rows(run)
    training = (split.loc[before.pictures] == "train").to_numpy()
    assert 0 < training.sum() < len(training)

    def garbage(pictures, name, names, tokens, device, **options):
        values = features(pictures, name, names, tokens, **options).numpy()
        values[(split.loc[names] != "train").to_numpy()] = 1e6
        return FeatureRows.of(values)

    monkeypatch.setattr(bench, "features", garbage)
    after = encoder_rows(run)
    seen = after.standardised.numpy()[training]
    np.testing.assert_array_equal(seen, before.standardised.numpy()[training])
    np.testing.assert_allclose(seen.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis=(0, 1)), 1, atol=1e-4)
    assert (after.raw.numpy()[~training] == 1e6).all()


def test_some_pictures_keep_the_features_that_they_have_among_all(run):
    rows = encoder_rows(run)
    wanted = rows.pictures[[5, 2, 9]]
    few = rows.of(wanted)
    assert few.pictures.tolist() == sorted(wanted)
    np.testing.assert_array_equal(few.leaves, rows.leaves[[2, 5, 9]])
    for name in ("raw", "standardised"):
        np.testing.assert_array_equal(getattr(few, name).numpy(), getattr(rows, name)[[2, 5, 9]])
    with pytest.raises(
        KeyError, match=r"features of 2 pictures were asked for; .* lacks 1 of them, first 'x'"
    ):
        rows.of(["x", str(wanted[0])])
