"""Tests of what stands in cluster/: manifests against the schemas of KubeRay and Ray, scripts against the shell."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from maskray.platform.job.load import parse_job
from maskray.platform.job.plan import plan_job
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.cluster.ray_environment import FRONT_DOOR, QUICK_HOPS, message_limit

ROOT = Path(__file__).resolve().parents[2]
IMAGE = f"example.com/maskray:{version('maskray')}"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "cluster/kuberay" / name).read_text()))


def kuberay(kind: str) -> dict[str, Any]:
    """The manifest of a kind of KubeRay, from the file of that name."""
    return next(item for item in documents(f"{kind.lower()}.yaml") if item["kind"] == kind)


def ray_cluster(kind: str) -> dict[str, Any]:
    spec = kuberay(kind)["spec"]
    return spec if kind == "RayCluster" else spec["rayClusterSpec" if kind == "RayJob" else "rayClusterConfig"]


def pods(kind: str) -> list[dict[str, Any]]:
    cluster = ray_cluster(kind)
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


KINDS = ("RayCluster", "RayJob", "RayService")


@pytest.mark.parametrize("kind", KINDS)
def test_manifest_fits_the_strict_schema(shared, kind):
    schemas = shared("schemas/kuberay-v1.7.0")
    # Without checking the schema itself first: it is large.
    validator = jsonschema.Draft7Validator(json.loads((schemas / f"{kind.lower()}s.strict.json").read_text()))
    assert [error.message for error in validator.iter_errors(kuberay(kind))] == []
    broken = kuberay(kind)
    broken["spec"]["imge"] = 1
    assert ["imge" in error.message for error in validator.iter_errors(broken)] == [True]


@pytest.mark.parametrize("kind", KINDS)
def test_nodes_are_alike_and_guarded(kind):
    cluster = ray_cluster(kind)
    assert cluster["rayVersion"] == version("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for pod in pods(kind):
        (container,) = pod["containers"]
        assert container["image"] == IMAGE
        assert container["resources"]["requests"] == container["resources"]["limits"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"shared": "/shared", "shm": "/dev/shm"}.items() <= mounts.items()
        assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
        assert pod["securityContext"]["runAsNonRoot"]


def test_job_of_the_manifest_is_valid_and_fits_its_cluster():
    config_map, manifest = documents("rayjob.yaml")
    ((name, text),) = config_map["data"].items()
    job = parse_job(text)
    plan = plan_job(job)
    assert plan.problems == ()
    assert job.resources.address == "auto"
    assert job.output.startswith("/shared/")
    assert manifest["spec"]["entrypoint"] == f"maskray run /job/{name} --resume-if-started"
    group = ray_cluster("RayJob")["workerGroupSpecs"][0]
    (container,) = group["template"]["spec"]["containers"]
    assert plan.cpus_needed <= group["replicas"] * float(container["resources"]["limits"]["cpu"])
    head_mounts = pods("RayJob")[0]["containers"][0]["volumeMounts"]
    assert {"name": "job", "mountPath": "/job"} in head_mounts, "the driver, which reads the job, runs on the head"


def unknown_keys(tree: dict[str, Any], model: type[BaseModel], where: str = "") -> list[str]:
    """Keys that Ray Serve would swallow without a word."""
    from ray.serve.schema import HTTPOptionsSchema, ServeApplicationSchema

    found = [f"{where}{key}" for key in tree if key not in model.model_fields]
    for name, inner in (("http_options", HTTPOptionsSchema), ("applications", ServeApplicationSchema)):
        items = tree.get(name, [])
        for item in items if isinstance(items, list) else [items]:
            found += unknown_keys(item, inner, f"{where}{name}.")
    return found


def serve_config() -> dict[str, Any]:
    return yaml.safe_load(kuberay("RayService")["spec"]["serveConfigV2"])


def test_serve_configuration_is_valid():
    from ray.serve.schema import ServeDeploySchema

    tree = serve_config()
    ServeDeploySchema.model_validate(tree)
    assert unknown_keys(tree, ServeDeploySchema) == []
    assert unknown_keys({"applications": [{"rout_prefix": "/"}]}, ServeDeploySchema) == ["applications.rout_prefix"]


def test_served_application_takes_its_arguments():
    (application,) = serve_config()["applications"]
    module, _, function = application["import_path"].partition(":")
    builder = importlib.import_module(module)
    assert callable(getattr(builder, function))
    arguments = builder.Arguments.model_validate(application["args"])
    group = ray_cluster("RayService")["workerGroupSpecs"][0]
    (container,) = group["template"]["spec"]["containers"]
    room = group["replicas"] * float(container["resources"]["limits"]["cpu"])
    assert arguments.num_replicas * arguments.cpus_per_replica <= room
    with pytest.raises(ValueError, match="num_replica"):
        builder.Arguments.model_validate({**application["args"], "num_replica": 1})


def test_serve_takes_quick_hops_and_large_messages_on_every_node():
    (application,) = serve_config()["applications"]
    limits = {key: value for key, value in application["args"].items() if key in ServeConfig.model_fields}
    wanted = QUICK_HOPS | FRONT_DOOR | message_limit(ServeConfig.model_validate(limits))
    for pod in pods("RayService"):
        (container,) = pod["containers"]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert wanted.items() <= environment.items()


def test_documented_environment_is_that_of_the_manifest():
    text = (ROOT / "docs/serving.md").read_text()
    documented = dict(re.findall(r"^    (RAY_SERVE_\w+)=(\S+)$", text, re.M))
    assert documented == QUICK_HOPS | FRONT_DOOR | message_limit(ServeConfig())


def ray_up() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster/ray-up.yaml").read_text())


def test_ray_up_file_fits_the_schema_of_ray():
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(ray_up(), schema)
    with pytest.raises(jsonschema.ValidationError, match="min_workers"):
        jsonschema.validate(ray_up() | {"min_workers": 1}, schema)


def test_ray_up_nodes_share_token_and_image():
    tree = ray_up()
    (token,) = tree["file_mounts"]
    for commands in (tree["head_start_ray_commands"], tree["worker_start_ray_commands"]):
        assert f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token} " in commands[-1]
    assert tree["docker"]["image"] == IMAGE
    assert tree["head_node_type"] in tree["available_node_types"]


def test_dockerfile_copies_what_there_is():
    text = (ROOT / "cluster/Dockerfile").read_text()
    sources = [word for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M) for word in line.split()[:-1]]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    needed = {"pyproject.toml", "README.md", "LICENSE", "requirements.lock", "ops", "model", "platform"}
    assert needed <= set(sources), "what the wheel is built from"
    assert "RAY_AUTH_MODE=token" in text


def test_local_script_is_sound_shell():
    script = ROOT / "cluster/local.sh"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    shown = subprocess.run([str(script)], capture_output=True, text=True)
    assert shown.returncode == 2
    assert "cluster/local.sh start" in shown.stdout
