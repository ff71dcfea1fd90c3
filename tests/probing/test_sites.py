import pytest

from probing.sites import BLOCK_POINTS, EMBED, FINAL, Site, describe, select

AVAILABLE = (Site(EMBED), *(Site(point, layer) for layer in range(12) for point in BLOCK_POINTS), Site(FINAL))


@pytest.mark.parametrize("site", AVAILABLE, ids=str)
def test_parse_is_the_inverse_of_str(site):
    assert Site.parse(str(site)) == site


def test_spelling_is_that_of_transformer_lens():
    assert str(Site("attn.hook_z", 3)) == "blocks.3.attn.hook_z"
    assert str(Site("hook_resid_post", 0)) == "blocks.0.hook_resid_post"
    assert str(Site("ln_final.hook_normalized")) == "ln_final.hook_normalized"


@pytest.mark.parametrize(
    "text",
    [
        "hook_resid_post",
        "blocks.1.hook_embed",
        "blocks.-1.hook_resid_post",
        "blocks.01.hook_resid_post",
        "blocks.1.hook_q",
    ],
)
def test_what_is_no_site_is_refused(text):
    with pytest.raises(ValueError, match=r"site|layer|point"):
        Site.parse(text)


def test_unknown_point_lists_the_known_ones():
    with pytest.raises(
        ValueError, match=r"no site has the point 'hook_q'.*blocks\.L\.hook_resid_mid.*ln_final"
    ):
        Site("hook_q", 2)


@pytest.mark.parametrize(
    ("pattern", "layers"),
    [
        ("blocks.*.hook_resid_post", list(range(12))),
        ("blocks.0-3.hook_resid_post", [0, 1, 2, 3]),
        ("blocks.0,4,8-10.hook_resid_post", [0, 4, 8, 9, 10]),
        ("blocks.1?.hook_resid_post", [10, 11]),
        ("blocks.7.hook_resid_post", [7]),
        ("blocks.9-99.hook_resid_post", [9, 10, 11]),
    ],
)
def test_layers_may_be_globs_lists_and_ranges(pattern, layers):
    assert [site.layer for site in select(pattern, AVAILABLE)] == layers


def test_a_star_stays_inside_one_part():
    assert [str(site) for site in select("blocks.2.*", AVAILABLE)] == [
        f"blocks.2.hook_{point}" for point in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
    ]


def test_attention_patterns_come_only_when_they_are_spelled():
    assert [str(site) for site in select("blocks.2.attn.*", AVAILABLE)] == ["blocks.2.attn.hook_z"]
    assert [site.layer for site in select("blocks.*.attn.hook_pattern", AVAILABLE)] == list(range(12))


def test_selection_is_in_forward_order_and_without_repeats():
    asked = [
        "ln_final.hook_normalized",
        "blocks.10.hook_resid_pre",
        "blocks.2.*",
        Site(EMBED),
        "blocks.2.hook_mlp_out",
    ]
    chosen = select(asked, AVAILABLE)
    assert list(chosen) == sorted(set(chosen), key=lambda site: site.order)
    assert chosen == select(reversed(asked), AVAILABLE)
    assert chosen[0] == Site(EMBED)
    assert chosen[-1] == Site(FINAL)


def test_no_match_lists_what_is_available():
    with pytest.raises(
        KeyError, match=r"'blocks\.12\.hook_resid_post'; available: hook_embed, blocks\.0-11\.hook_resid_pre"
    ):
        select("blocks.12.hook_resid_post", AVAILABLE)
    with pytest.raises(ValueError, match="no site was asked for"):
        select([], AVAILABLE)


def test_description_shows_layers_as_ranges():
    sites = [Site("hook_resid_post", layer) for layer in (0, 1, 2, 5, 7, 8)]
    assert describe(sites) == "blocks.0-2,5,7-8.hook_resid_post"
