import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.nightly
def test_preparing_and_scoring_twenty_thousand_pictures_stay_under_four_gigabytes(tmp_path):
    """The manifest of every question, the scores and the table of `behaviour`; features are narrow here to be quick."""
    command = [sys.executable, "-m", "tests.taxogen.answers.scoring_job", str(tmp_path), "32", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 0.2e9 < int(done.stdout) < 4e9
