"""deploy/kubernetes: what Kubernetes' own schemas allow, and what points at something points at what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import latest_version, validate

import creditsd
from creditsd.config.settings import load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION: Any = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
RESOURCES: dict[str, Any] = {
    each: yaml.safe_load((FOLDER / each).read_text(encoding="utf-8")) for each in KUSTOMIZATION["resources"]
}
PODS = {name: RESOURCES[name]["spec"]["template"] for name in ("deployment.yaml", "install.yaml")}
PORT = 8321


def test_every_file_is_listed() -> None:
    generated = [file for each in KUSTOMIZATION["configMapGenerator"] for file in each["files"]]
    assert sorted([*RESOURCES, *generated, "kustomization.yaml"]) == sorted(each.name for each in FOLDER.iterdir())


@pytest.mark.parametrize("version", ["1.30", latest_version()])
@pytest.mark.parametrize("name", RESOURCES)
def test_kubernetes_takes_it(name: str, version: str) -> None:
    validate(RESOURCES[name], version, strict=True)


def test_the_image_is_of_this_version() -> None:
    assert KUSTOMIZATION["images"] == [{"name": "creditsd", "newTag": creditsd.__version__}]
    assert {each["image"] for pod in PODS.values() for each in pod["spec"]["containers"]} == {"creditsd"}


def test_its_settings_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in container("deployment.yaml")["env"]:
        if each["name"] == "CREDITSD_HTTP__LISTEN":
            monkeypatch.setenv(each["name"], each["value"])
    settings = load(FOLDER / "creditsd.toml")
    assert settings.sink_names == ["cache"]
    assert settings.http.address == ("0.0.0.0", PORT)


def test_what_is_mounted_is_there_and_what_the_environment_names_is_mounted() -> None:
    (config,) = KUSTOMIZATION["configMapGenerator"]
    for pod in PODS.values():
        volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
        (run,) = pod["spec"]["containers"]
        mounts = {each["name"]: each["mountPath"] for each in run["volumeMounts"]}
        assert volumes.keys() == mounts.keys()
        assert volumes["settings"]["configMap"]["name"] == config["name"]
        assert volumes["secrets"]["secret"]["secretName"] == "creditsd"
        there = {f"{mounts['settings']}/{file}" for file in config["files"]}
        there |= {f"{mounts['secrets']}/{each['path']}" for each in volumes["secrets"]["secret"]["items"]}
        named = {each["value"] for each in run["env"] if each["value"].startswith("/")}
        assert named == there


def test_the_docs_make_every_key_of_the_secret() -> None:
    wanted = {
        each["key"]
        for pod in PODS.values()
        for volume in pod["spec"]["volumes"]
        for each in volume.get("secret", {}).get("items", [])
    }
    docs = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    command = re.search(r"kubectl .*create secret generic creditsd\b.*?(?=\n\$ |\n```)", docs, re.DOTALL)
    assert command is not None
    assert set(re.findall(r"--from-literal=([\w-]+)=", command[0])) == wanted == {"dsn", "owner-dsn"}


def test_probes_ask_paths_that_the_daemon_answers_at_the_port_that_is_open() -> None:
    run = container("deployment.yaml")
    assert run["ports"] == [{"name": "http", "containerPort": PORT}]
    probes = {each: run[f"{each}Probe"]["httpGet"] for each in ("startup", "liveness", "readiness")}
    assert {each["port"] for each in probes.values()} == {"http"}
    answered = (ROOT / "creditsd" / "http" / "probes.py").read_text(encoding="utf-8")
    assert all(f'"{each["path"]}"' in answered for each in probes.values())
    assert (probes["readiness"]["path"], probes["liveness"]["path"]) == ("/readyz", "/livez")
    (port,) = RESOURCES["service.yaml"]["spec"]["ports"]
    assert port == {"name": "http", "port": PORT, "targetPort": "http"}
    (ingress,) = RESOURCES["network.yaml"]["spec"]["ingress"]
    assert [each["port"] for each in ingress["ports"]] == [PORT]


def test_whoever_selects_pods_finds_the_daemons_and_the_network_policy_the_installer_too() -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in PODS.items()}
    daemons = [
        RESOURCES["deployment.yaml"]["spec"]["selector"]["matchLabels"],
        RESOURCES["service.yaml"]["spec"]["selector"],
        RESOURCES["disruption.yaml"]["spec"]["selector"]["matchLabels"],
    ]
    assert [each for each in daemons if each != labels["deployment.yaml"]] == []
    every = RESOURCES["network.yaml"]["spec"]["podSelector"]["matchLabels"].items()
    assert all(every <= each.items() for each in labels.values())


@pytest.mark.parametrize("name", PODS)
def test_a_pod_may_nothing(name: str) -> None:
    spec = PODS[name]["spec"]
    account = RESOURCES["account.yaml"]
    assert spec["serviceAccountName"] == account["metadata"]["name"]
    assert (spec["automountServiceAccountToken"], account["automountServiceAccountToken"]) == (False, False)
    assert spec["securityContext"]["runAsNonRoot"] is True
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"USER {spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}" in image
    may = container(name)["securityContext"]
    assert may == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def container(name: str) -> Any:
    (found,) = PODS[name]["spec"]["containers"]
    return found
