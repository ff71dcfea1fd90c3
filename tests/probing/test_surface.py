"""The public names of `probing`: what they are, in whatever order they and the rooms are imported."""

import subprocess
import sys

import pytest

import probing

HOMES = {
    "MEASURES": "similarity",
    "PROBES": "probes",
    "ActivationStore": "store",
    "Estimate": "stats",
    "capture": "capture",
    "edit": "hooks",
    "record": "hooks",
}


def fresh(code: str) -> str:
    """The output of a new interpreter."""
    job = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not job.returncode, job.stderr
    return job.stdout.strip()


def test_the_public_names_are_those_of_their_rooms():
    assert sorted(probing.__all__) == sorted(HOMES)
    for name, room in HOMES.items():
        home = __import__(f"probing.{room}", fromlist=[name])
        assert getattr(probing, name) is getattr(home, name)
    assert set(HOMES) <= set(dir(probing))


@pytest.mark.parametrize(
    "before",
    ["", "from probing.capture import CaptureBatch", "import probing.capture.loop", "import probing.lens"],
)
def test_capture_is_the_function_whatever_was_imported_before(before):
    code = (
        f"{before}\nfrom probing import capture\nfrom probing.capture import CaptureBatch, capture as same\n"
        "print(capture is same, callable(capture), CaptureBatch.__name__)"
    )
    assert fresh(code) == "True True CaptureBatch"


def test_importing_probing_loads_no_heavy_library():
    heavy = "{'torch', 'numpy', 'h5py', 'transformers', 'sklearn'}"
    assert fresh(f"import probing, sys; print(sorted({heavy} & set(sys.modules)))") == "[]"
    loaded = "import probing, sys; probing.PROBES; print('torch' in sys.modules)"
    assert fresh(loaded) == "False"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'probing' has no attribute 'captur'"):
        probing.captur  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_calibrate_is_a_function_of_its_package():
    from probing.similarity import Calibration, calibrate

    assert callable(calibrate)
    assert calibrate.__module__ == Calibration.__module__ == "probing.similarity.calibration"
