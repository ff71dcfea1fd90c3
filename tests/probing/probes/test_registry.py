import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

from probing.probes import PROBES
from probing.probes.estimators import RegisteredProbe
from probing.probes.means import fit_mass_mean


def rows(seed=0, n=60, d=5):
    """Features, a yes/no label that two of them tell, and groups of three rows."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) // 3 % 2 == 0
    features = rng.normal(size=(n, d)) + 2 * labels[:, None] * np.array([1.0, -1, 0, 0, 0]) + 5
    return features, labels, np.arange(n) // 3


@pytest.mark.parametrize("name", PROBES)
def test_a_registered_probe_is_the_same_through_scikit_learn(name):
    features, labels, groups = rows()
    fitted = PROBES[name](features, labels[:, None].astype(float), groups)
    peer = RegisteredProbe(name).fit(features, labels, groups)
    chance = fitted.probabilities(fitted.scores(features))[:, 0]
    assert peer.predict_proba(features)[:, 1] == pytest.approx(chance, abs=1e-9)
    assert cross_val_score(RegisteredProbe(name), features, labels).mean() > 0.8


def test_a_new_probe_is_reachable_by_its_name_alone(monkeypatch):
    calls = []

    def fit(features, labels, groups, penalties, blocks=1):
        calls.append((features.shape, labels.shape, groups.tolist(), penalties))
        return fit_mass_mean(features, labels, groups, penalties, blocks)

    monkeypatch.setitem(PROBES, "mine", fit)
    features, labels, groups = rows()
    RegisteredProbe("mine", penalties=(2.0,)).fit(features, labels, groups)
    assert calls == [((60, 5), (60, 1), groups.tolist(), (2.0,))]


def test_an_unknown_probe_is_refused_with_the_known_ones():
    with pytest.raises(KeyError, match="unknown probe 'cubic'; known: ridge, logistic, mass_mean"):
        RegisteredProbe("cubic").fit(*rows()[:2])
