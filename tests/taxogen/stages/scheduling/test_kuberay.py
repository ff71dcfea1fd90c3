"""The recipe for Kubernetes: it fits the schema of KubeRay's RayJob, and its pods and its command fit together."""

import copy
import json
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml

from taxogen.__main__ import parser

HERE = Path(__file__).parent
SCHEMA = json.loads((HERE / "kuberay_rayjob.json").read_text(encoding="utf-8"))


@pytest.fixture
def job():
    return yaml.safe_load((HERE.parents[3] / "examples" / "cluster-kuberay.yaml").read_text(encoding="utf-8"))


def pods(job):
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_the_manifest_fits_the_schema_of_a_rayjob(job):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(job, SCHEMA)


def container(job):
    return pods(job)[1]["containers"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda job: job["spec"].update(entryPoint="ls"), "'entryPoint' was unexpected"),
        (lambda job: job["spec"].update(backoffLimit="three"), "'three' is not of type 'integer'"),
        (
            lambda job: job["spec"]["rayClusterSpec"].pop("headGroupSpec"),
            "'headGroupSpec' is a required property",
        ),
        (
            lambda job: job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].pop("groupName"),
            "'groupName' is a",
        ),
        (lambda job: container(job).update(volumeMount=[]), "'volumeMount' was unexpected"),
        (lambda job: container(job)["resources"]["limits"].update(memory="lots"), "'lots'"),
        (lambda job: container(job)["env"].append({"value": "1"}), "'name' is a required property"),
    ],
)
def test_a_typo_does_not_fit(job, change, message):
    wrong = copy.deepcopy(job)
    change(wrong)
    with pytest.raises(jsonschema.ValidationError, match=message):
        jsonschema.validate(wrong, SCHEMA)


def test_every_pod_sees_the_shared_folder_under_one_path_and_has_one_image(job):
    containers = [container for pod in pods(job) for container in pod["containers"]]
    assert len({container["image"] for container in containers}) == 1
    assert job["spec"]["rayClusterSpec"]["rayVersion"]
    for pod in pods(job):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts["shared"] == "/shared"
        assert volumes["shared"]["persistentVolumeClaim"] == {"claimName": "taxoprobe"}
        assert set(mounts) == set(volumes)
        environment = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
        assert environment == {"OMP_NUM_THREADS": "1", "TAXOPROBE_CACHE": mounts["cache"]}


def test_the_command_is_one_of_taxoprobe(job):
    shell, flag, line = shlex.split(job["spec"]["entrypoint"])
    assert (shell, flag) == ("sh", "-c")
    folder, command = line.split(" && ")
    assert folder == "cd /shared"
    program, *words = shlex.split(command)
    given = parser().parse_args(words)
    assert (program, given.command, given.address, str(given.run)) == ("taxoprobe", "sweep", "auto", "study")
