"""A Ray cluster of two machines that two raylets play: what is lost with one of them is done by the other."""

import json
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from taxogen.__main__ import main
from taxogen.stages.scheduling import cluster as module
from taxogen.stages.scheduling.cluster import Cluster
from taxogen.stages.scheduling.schedule import schedule
from taxogen.stages.scheduling.task import Room, Task
from tests.world import toy_folder

pytest.importorskip("ray")
pytestmark = [pytest.mark.nightly, pytest.mark.filterwarnings("ignore")]  # Ray's own


@pytest.fixture
def machines(monkeypatch):
    """The address of a cluster of two machines with one core each, and what kills the second."""
    from ray.cluster_utils import Cluster as Raylets

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    raylets = Raylets(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 10**8})
    second = raylets.add_node(num_cpus=1, object_store_memory=10**8)
    raylets.wait_for_nodes()

    def kill():
        process = psutil.Process(second.all_processes["raylet"][0].process.pid)
        for one in (process, *process.children(recursive=True)):
            one.send_signal(signal.SIGKILL)

    yield raylets.address, kill
    raylets.shutdown()


def note(folder, name, seconds):
    with (folder / name).open("a") as file:
        file.write(f"{os.getpid()} ")
    time.sleep(seconds)


def test_a_task_of_a_machine_that_is_lost_is_done_by_the_other(machines, tmp_path):
    address, kill = machines
    said, begun = [], set()

    def hear(news):
        said.append(news)
        begun.update([news.task] if news.kind == "begun" else [])
        if begun == {"note a", "note b"} and len(said) == 2:
            kill()

    tasks = [Task(f"note {name}", partial(note, tmp_path, name, 8)) for name in "ab"]
    tasks.append(Task("fail a", partial(int, "no number")))
    faults = schedule(tasks, Cluster(address, None, tmp_path), hear)
    assert list(faults) == ["fail a"]
    assert "invalid literal for int()" in faults["fail a"]
    (lost,) = [news.task for news in said if news.kind == "lost"]
    assert [len((tmp_path / name).read_text().split()) for name in "ab"] == [
        1 + (lost == f"note {name}") for name in "ab"
    ]


def test_room_is_that_of_all_machines_and_a_folder_that_one_does_not_see_is_refused(
    machines, tmp_path, monkeypatch
):
    address, _ = machines
    workers = Cluster(address, None, tmp_path)
    assert (workers.room().cpus, workers.largest().cpus, workers.room().gpus) == (2, 1, 0)
    assert workers.largest().holds(Room(1, 0, 1e8))
    workers.close()
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(module, "mark_in", lambda folder: folder / "elsewhere")
    with pytest.raises(
        FileNotFoundError, match=r"is not seen by .* of the cluster; name a folder with --out"
    ):
        Cluster(address, None, tmp_path)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "--address 127.0.0.1:1 does not answer (Connection refused)"),
        ("nowhere", "--address nowhere: give HOST:PORT"),
        ("ray://127.0.0.1:10001", "--address ray://127.0.0.1:10001: give HOST:PORT"),
    ],
)
def test_an_address_without_a_cluster_is_one_line_and_nothing_starts(tmp_path, caplog, address, message):
    start = time.monotonic()
    assert main(["sweep", "--out", str(tmp_path), "--vary", "seed=0,1", "--address", address]) == 2
    (line,) = caplog.text.strip().splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())
    assert time.monotonic() - start < 20


PLAN = """
name = "toy"
seeds = [0, 1]
[common]
{settings}
[questions]
layer-probes = {{ step = ["last"], transfer = ["raw"], controls = 1, shuffled = 0, draws = 20 }}
[together]
behaviour = {{ draws = 20 }}
[groups.full]
vary.model.init = ["pretrained", "random"]
"""
OWN = (
    "train.steps=60",
    "train.checkpoint_seconds=0",
    "capture.at=last",
    "capture.spans=cue",
    "train.snapshots=last",
)
KINDS = ("*.parquet", "*.csv", "*.safetensors", "scores.h5", "baselines.h5", "world.json")


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for kind in KINDS for path in folder.rglob(kind)}


def test_a_sweep_that_loses_a_machine_has_the_files_of_a_serial_one(tmp_path, toy_lm, machines, monkeypatch):
    address, kill = machines
    with toy_folder(tmp_path, toy_lm) as settings:
        values = dict(one.split("=", 1) for one in (*settings, *OWN))
        lines = (f"{key} = {_toml(value)}" for key, value in values.items())
        Path("plan.toml").write_text(PLAN.format(settings="\n".join(lines)))
        assert main(["sweep", "plan.toml", "--out", "toy", "--jobs", "1"]) == 0
        serial = files_of(tmp_path / "toy")
        (tmp_path / "toy").rename(tmp_path / "serial")
        seconds = tmp_path / "toy" / "sweep-seconds.json"

        def kill_in_the_middle():
            while not seconds.exists() or seconds.read_text().count(":") < 4:
                time.sleep(0.1)
            kill()

        threading.Thread(target=kill_in_the_middle, daemon=True).start()
        assert main(["sweep", "plan.toml", "--out", "toy", "--address", address]) == 0
        assert files_of(tmp_path / "toy") == serial
        assert len(serial) > 30


def _toml(text):
    return text if text in ("true", "false") or text.replace(".", "").isdigit() else json.dumps(text)
