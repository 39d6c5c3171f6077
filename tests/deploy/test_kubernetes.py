"""Everything for Kubernetes against the strict schemas of its API, and `writ inject` on every kind of manifest."""

import copy
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute()
WRIT = TARGET / "debug" / "writ"
VERSION = "1.31"

CONTAINER = {"name": "agent", "image": "agent", "env": [{"name": "HTTPS_PROXY", "value": "http://other:1"}]}
POD = {"containers": [CONTAINER], "initContainers": [{"name": "fetch", "image": "fetch"}]}


def workload(kind: str, pod: dict[str, Any]) -> dict[str, Any]:
    """A manifest of a kind with this pod in it."""
    pod = copy.deepcopy(pod)
    meta = {"metadata": {"name": "x"}}
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    if kind in ("Job", "CronJob"):
        pod["restartPolicy"] = "Never"
    spec: dict[str, Any] = {"selector": {"matchLabels": labels}, "template": template}
    match kind:
        case "Pod":
            return {"apiVersion": "v1", "kind": kind, **meta, "spec": pod}
        case "Deployment" | "DaemonSet" | "ReplicaSet":
            return {"apiVersion": "apps/v1", "kind": kind, **meta, "spec": spec}
        case "StatefulSet":
            return {"apiVersion": "apps/v1", "kind": kind, **meta, "spec": spec | {"serviceName": "x"}}
        case "ReplicationController":
            return {"apiVersion": "v1", "kind": kind, **meta, "spec": {"selector": labels, "template": template}}
        case "Job":
            return {"apiVersion": "batch/v1", "kind": kind, **meta, "spec": {"template": template}}
        case "CronJob":
            job = {"schedule": "0 * * * *", "jobTemplate": {"spec": {"template": template}}}
            return {"apiVersion": "batch/v1", "kind": kind, **meta, "spec": job}
    raise AssertionError(kind)


KINDS = ["CronJob", "DaemonSet", "Deployment", "Job", "Pod", "ReplicaSet", "ReplicationController", "StatefulSet"]


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    spec = document["spec"]
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    return spec["template"]["spec"] if "template" in spec else spec


def inject(text: str, *options: str) -> subprocess.CompletedProcess[str]:
    words = [WRIT, "inject", "-f", "-", *options]
    return subprocess.run(words, input=text, capture_output=True, text=True, env={"HOME": "/nonexistent"})


def injected(text: str, *options: str) -> str:
    done = inject(text, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    [found] = [each for each in items if each["name"] == name]
    return found


def validate(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, VERSION, strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_inject_fences_every_container_of_every_kind(kind: str) -> None:
    before = workload(kind, POD)
    validate(before)
    text = injected(yaml.safe_dump(before))
    after = yaml.safe_load(text)
    validate(after)
    pod = pod_of(after)
    assert [each["name"] for each in pod["initContainers"]] == ["writ-fence", "writ", "fetch"]
    assert named(pod["initContainers"], "writ")["restartPolicy"] == "Always"
    for container in [*pod["containers"], named(pod["initContainers"], "fetch")]:
        assert named(container["env"], "HTTPS_PROXY")["value"].endswith("@127.0.0.1:4001")
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert named(container["volumeMounts"], "writ-ca")["readOnly"]
    assert injected(text) == text, "adding it twice changes nothing"


def test_inject_leaves_other_documents_and_takes_images_and_a_claim() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}}
    listed = {"apiVersion": "v1", "kind": "List", "items": [service, workload("Pod", POD)]}
    text = yaml.safe_dump_all([service, workload("Deployment", POD), listed])
    text = injected(text, "--image", "r/writ:1", "--fence-image", "r/fence:1", "--claim", "kept")
    first, second, third = yaml.safe_load_all(text)
    assert first == service and third["items"][0] == service
    for pod in [pod_of(second), pod_of(third["items"][1])]:
        assert named(pod["initContainers"], "writ")["image"] == "r/writ:1"
        assert named(pod["initContainers"], "writ-fence")["image"] == "r/fence:1"
        assert named(pod["volumes"], "writ-data") == {"name": "writ-data", "persistentVolumeClaim": {"claimName": "kept"}}
    assert injected(text, "--image", "r/writ:1", "--fence-image", "r/fence:1", "--claim", "kept") == text


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"hostPID": True}, "hostPID"),
        ({"shareProcessNamespace": True}, "shareProcessNamespace"),
        ({"securityContext": {"runAsUser": 64321}}, "64321"),
        ({"containers": [CONTAINER | {"securityContext": {"runAsUser": 64321}}]}, "64321"),
        ({"containers": [CONTAINER | {"securityContext": {"privileged": True}}]}, "privileged"),
        ({"containers": [CONTAINER | {"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]}, "NET_ADMIN"),
        ({"containers": [CONTAINER | {"securityContext": {"capabilities": {"add": ["CAP_SETUID"]}}}]}, "SETUID"),
        ({"initContainers": [{"name": "a", "securityContext": {"capabilities": {"add": ["ALL"]}}}]}, "ALL"),
    ],
)
def test_inject_refuses_a_pod_that_could_get_around(change: dict[str, Any], word: str) -> None:
    done = inject(yaml.safe_dump(workload("Deployment", POD | change)))
    assert done.returncode == 1 and not done.stdout
    assert word in done.stderr and "`x`" in done.stderr


@pytest.mark.parametrize("text", ["", "kind: Service\n", "kind: Pod\nmetadata: {name: x}\n", "a: [\n", "kind: Pod\nspec: 1\n"])
def test_inject_says_what_it_cannot_do(text: str) -> None:
    done = inject(text)
    assert done.returncode == 1 and not done.stdout and done.stderr.startswith("writ: "), done


def test_the_shipped_sidecar_is_what_inject_prints() -> None:
    folder = KUBERNETES / "sidecar"
    assert injected((folder / "pod.yaml").read_text()) == (folder / "pod.injected.yaml").read_text()


@pytest.mark.parametrize("name", ["gate", "agents", "sidecar"])
def test_every_resource_is_valid(name: str) -> None:
    folder = KUBERNETES / name
    if shutil.which("kubectl"):
        made = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True)
        documents = list(yaml.safe_load_all(made.stdout))
        assert any(each["kind"] == "ConfigMap" for each in documents)
    else:
        # Without kubectl the files by themselves; what kustomize puts together of them is not seen.
        resources = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
        documents = [each for file in resources for each in yaml.safe_load_all((folder / file).read_text())]
    for document in documents:
        validate(document)


def test_the_gate_has_one_writer_no_rights_and_no_way_in_for_agents_but_the_forward_door() -> None:
    files = {path.stem: list(yaml.safe_load_all(path.read_text())) for path in (KUBERNETES / "gate").glob("*.yaml")}
    deployment, budget = files["deployment"]
    assert deployment["spec"]["replicas"] == 1 and deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert budget["kind"] == "PodDisruptionBudget"
    pod = deployment["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False and pod["securityContext"]["runAsUser"] == 64321
    context = pod["containers"][0]["securityContext"]
    assert context["readOnlyRootFilesystem"] and context["capabilities"] == {"drop": ["ALL"]}
    [service], [policy] = files["service"], files["network"]
    assert [port["port"] for port in service["spec"]["ports"]] == [4001]
    assert [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]] == [4001]
    [fenced] = yaml.safe_load_all((KUBERNETES / "agents" / "network.yaml").read_text())
    assert fenced["spec"]["podSelector"] == {} and set(fenced["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert [port["port"] for rule in fenced["spec"]["egress"] for port in rule["ports"]] == [4001]


@pytest.mark.parametrize("name", ["gate", "sidecar"])
def test_the_shipped_configuration_loads(name: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    variables = {"WRIT_HOME": str(home), "WRIT_CONFIG": str(KUBERNETES / name / "config")}
    done = subprocess.run([WRIT, "check"], capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
