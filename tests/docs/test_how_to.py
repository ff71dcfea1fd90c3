"""The how-to page runs from its first block to its last, with toy pictures and toy models in the places of yours."""

from pathlib import Path

import pandas as pd
import pytest

from tests.docs.running import DOCS, as_toml, blocks, run_page
from tests.probing import tiny_vlms
from tests.world import toy_folder

PAGE = DOCS / "how_to.md"
PLAN = """
name = "study"
[common]
{common}
[questions]
layer-probes = {{ span = ["cue"] }}
[together]
behaviour = {{}}
[groups.full]
about = "all hypernym evidence removed"
vary.model.init = ["pretrained", "random"]
"""


@pytest.fixture
def outputs(tmp_path, toy_lm):
    tiny_vlms.save("llava", tmp_path / "my-vlm")
    with toy_folder(tmp_path, toy_lm) as settings:
        for place, name in {
            "world/pictures": "photos",
            "world/taxonomy.csv": "taxonomy.csv",
            "lm": "my-lm",
        }.items():
            Path(name).symlink_to(place)
        own = ("data.pictures=photos", "data.taxonomy=taxonomy.csv", "name=mine")
        mine = as_toml((*settings, *own))
        instead = {"mine.toml": mine, "plan.toml": PLAN.format(common=mine.replace('name = "mine"\n', ""))}
        yield {one.text: said for one, said in run_page(PAGE, instead)}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_block_runs_and_leaves_what_the_page_promises(outputs):
    assert len(outputs) == len([one for one in blocks(PAGE) if one.language == "bash"]) == 6
    assert "cue" in "".join(said for text, said in outputs.items() if "my-lm" in text)
    table = pd.read_parquet("artifacts/runs/mine/analyses/loudness/loudness.parquet")
    assert (table["lower"] <= table["value"]).all()
    assert (table["value"] <= table["upper"]).all()
    assert table["value"].iloc[0] > 0
    assert {path.suffix for path in Path("figures").iterdir()} >= {".pdf", ".svg", ".png"}
    assert Path("artifacts/page/report.html").is_file()
    (of_plan,) = [said for text, said in outputs.items() if "plan.toml" in text]
    assert "2 runs of 3 stages (train, evaluate, layer-probes): 0 of 6 stages done" in of_plan
