import logging

import pytest

from taxogen.world import things

LONG = """category\tuniqueID\tWord
animal\tbat1\tbat
animal\tbird\tbird
bird\tbird\tbird
bird\tcrow\tcrow
animal\tcrow\tcrow
"""
WIDE = """uniqueID\tWord\tanimal\tbird
bat1\tbat\t1\t0
bird\tbird\t1\t1
crow\tcrow\t1\t1
pen\tpen\t0\t0
"""
CONCEPTS = """Word\tuniqueID\tWordNet ID\tWordnet ID4
bat\tbat1\tn02139199\tbat.n.01
crow\tcrow\tn01579028\tcrow.n.01
pen\tpen\tn03906997\tpen.n.01
quill\tquill\t\tpen.n.01
airboat\tairboat\t\t
"""
DEEP = "THINGSplus/Metadata/Concept-specific"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / DEEP).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(("name", "text"), [("long", LONG), ("wide", WIDE)])
def test_both_layouts(folder, name, text, caplog):
    (folder / DEEP / f"category53_{name}Format.tsv").write_text(text)
    with caplog.at_level(logging.WARNING):
        found = things.read(folder)
    assert found.edges == (("bat1", "animal"), ("crow", "animal"), ("crow", "bird"))
    assert "Left out, since they are categories too: bird" in caplog.text
    assert found.synsets == {}


def test_synsets_where_they_are_known_and_single(folder):
    text = LONG + "pen holder\tpen\tpen\npen holder\tquill\tquill\n"
    (folder / DEEP / "category53_longFormat.tsv").write_text(text)
    (folder / "things_concepts.tsv").write_text(CONCEPTS)
    assert things.read(folder).synsets == {"bat1": "bat.n.01", "crow": "crow.n.01"}


def test_refusals(folder):
    with pytest.raises(
        FileNotFoundError, match=r"No category53_longFormat\.tsv or .* below .*https://osf\.io/jum2f"
    ):
        things.read(folder)
    (folder / "category53_longFormat.tsv").write_text("concept\tcategory\n")
    with pytest.raises(ValueError, match=r"lacks the columns \['uniqueID'\] \(found: concept, category\)"):
        things.read(folder)
