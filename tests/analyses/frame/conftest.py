"""A planted run and a table about it."""

import pytest

from tests.analyses.frame.planted_runs import COUNT, Options, planted_run


@pytest.fixture
def run(tmp_path):
    return planted_run(tmp_path / "toy")


@pytest.fixture
def table(run):
    """The path of a table about the run."""
    COUNT.ask([run], Options())
    return run.path / "analyses" / "count" / "count.parquet"
