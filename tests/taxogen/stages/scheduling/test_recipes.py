"""The recipe for Slurm, run where `srun`, `scontrol`, `ray` and `taxoprobe` only write down how they were called."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[4] / "examples" / "cluster.sbatch"
FAKES = {
    "scontrol": 'printf "ash\\nelm\\noak\\n"',
    "srun": "[ -e refused ] || until [ -e swept ]; do /bin/sleep 0.02; done",
    "ray": '[ ! -e refused ] || exit 1; [ "$1" != health-check ] || [ -e asked ] || { touch asked; exit 1; }',
    "taxoprobe": "touch swept; exit ${SWEPT:-0}",
    "sleep": "true",
}


@pytest.fixture
def submit(tmp_path):
    """Runs the recipe; its exit code, and how each command was called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, does in FAKES.items():
        path = programs / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >> calls\n{does}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def submit(nodes, **more):
        given = {
            "SLURM_JOB_NODELIST": "[ash-oak]",
            "SLURM_JOB_ID": "30123",
            "SLURM_JOB_NUM_NODES": str(nodes),
        }
        given |= {"SLURM_CPUS_PER_TASK": "4", "PATH": f"{programs}:{os.environ['PATH']}", **more}
        done = subprocess.run(
            ["bash", RECIPE, "plan.toml", "out"], cwd=tmp_path, env=given, capture_output=True
        )
        calls = (tmp_path / "calls").read_text().splitlines()
        return done.returncode, [call for call in calls if not call.startswith(("sleep", "scontrol"))]

    return submit


START = "--num-cpus=4 --disable-usage-stats --block"
HEAD = f"srun --nodes=1 --ntasks=1 --nodelist=ash ray start --head --port=20123 {START}"
ASK = "ray health-check --address=ash:20123"


@pytest.mark.parametrize("nodes", [1, 3])
def test_ray_is_started_on_every_node_and_the_sweep_once_its_head_answers(submit, nodes):
    code, calls = submit(nodes)
    assert code == 0
    others = f"srun --nodes=2 --ntasks=2 --exclude=ash ray start --address=ash:20123 {START}"
    assert sorted(calls) == sorted(
        [
            HEAD,
            ASK,
            ASK,
            "taxoprobe sweep plan.toml --out out --address ash:20123",
            *([others] if nodes > 1 else []),
        ]
    )
    assert calls.index(ASK) < calls.index("taxoprobe sweep plan.toml --out out --address ash:20123")


def test_the_job_has_the_exit_code_of_the_sweep_and_ends_where_ray_does_not_start(submit, tmp_path):
    assert submit(1, SWEPT="1")[0] == 1
    (tmp_path / "calls").unlink()
    (tmp_path / "refused").touch()
    code, calls = submit(1)
    assert code != 0
    assert not [call for call in calls if call.startswith("taxoprobe")]
