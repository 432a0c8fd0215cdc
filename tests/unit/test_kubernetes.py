"""`deploy/kubernetes` names things of the project and of itself: they must be what it has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tapeline import __version__
from tapeline.cli.app import load_command
from tapeline.model.symbols import parse_symbols
from tapeline.producer.main import names_in
from tapeline.program.setting_errors import variables_of
from tapeline.program.settings import (
    API_KEY_VARIABLE,
    API_PORT,
    ENV_DELIMITER,
    ENV_FILE_VARIABLE,
    ENV_PREFIX,
    SECRET_VARIABLES,
    Settings,
    load_settings,
)

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
LABEL = "app.kubernetes.io/component"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


(KUSTOMIZATION,) = documents(FOLDER / "kustomization.yaml")
OBJECTS = [d for name in KUSTOMIZATION["resources"] for d in documents(FOLDER / name)]
SECRETS = {d["metadata"]["name"]: d for d in documents(FOLDER / "secret.example.yaml")}
ENVIRONMENT = dict(
    line.split("=", 1) for line in (FOLDER / "settings.env").read_text(encoding="utf-8").split()
)
GENERATED = {g["name"]: g for g in KUSTOMIZATION["configMapGenerator"]}


def of_kind(*kinds: str) -> dict[str, dict[str, Any]]:
    return {o["metadata"]["name"]: o for o in OBJECTS if o["kind"] in kinds}


WORKLOADS = of_kind("Deployment", "StatefulSet")
PODS = {name: w["spec"]["template"] for name, w in WORKLOADS.items()}
CONTAINERS = {
    container["name"]: (workload, container)
    for workload, pod in PODS.items()
    for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
}
every_workload = pytest.mark.parametrize("name", WORKLOADS)
every_container = pytest.mark.parametrize("name", CONTAINERS)


def everything_in(value: object) -> Iterator[tuple[str, object]]:
    """Yield each key below a value, with what it holds."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from everything_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from everything_in(inner)


def test_every_object_is_there_once_and_every_file_is_used():
    names = [(o["kind"], o["metadata"]["name"]) for o in OBJECTS]
    files = {path.name for path in FOLDER.iterdir()}
    generated = {f for g in GENERATED.values() for f in [*g.get("envs", []), *g.get("files", [])]}

    assert len(set(names)) == len(names)
    assert set(WORKLOADS) == {"producer", "stream", "api"}
    own = {"kustomization.yaml", "secret.example.yaml"}  # the secrets are applied apart
    assert files == {*KUSTOMIZATION["resources"], *generated, *own}
    assert set(of_kind("Namespace")) == {KUSTOMIZATION["namespace"]}
    assert {s["metadata"]["namespace"] for s in SECRETS.values()} == {KUSTOMIZATION["namespace"]}


def test_every_variable_is_a_setting_and_its_value_is_valid(monkeypatch):
    known = set(variables_of(Settings.model_fields, ENV_PREFIX, ENV_DELIMITER))
    texts = [path.read_text(encoding="utf-8") for path in FOLDER.iterdir()]
    named = set(re.findall(r"(?:TAPELINE|FINNHUB)_\w+", "\n".join(texts)))
    for variable in os.environ:
        if variable.startswith(ENV_PREFIX) or variable == API_KEY_VARIABLE:
            monkeypatch.delenv(variable)
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)

    assert named - known == {ENV_FILE_VARIABLE}
    settings = load_settings()
    assert settings.stream.master == "local[2]"
    assert settings.kafka.replication_factor == settings.cassandra.replication_factor == 3


def test_no_secret_stands_in_the_files():
    assert set(SECRET_VARIABLES).isdisjoint(ENVIRONMENT)
    for secret in SECRETS.values():
        for value in secret["stringData"].values():
            assert value in {"", f"{API_KEY_VARIABLE}=\n"}


def test_the_file_of_a_producers_key_is_one_of_variables(monkeypatch, tmp_path):
    """Kubernetes puts the pod's name into the path, and the secret has an entry of that name."""
    _, producer = CONTAINERS["producer"]
    environment = {entry["name"]: entry for entry in producer["env"]}
    mounts = {m["name"]: m["mountPath"] for m in producer["volumeMounts"]}
    entry = SECRETS["feed-keys"]["stringData"]["producer-0"]
    file = tmp_path / "producer-0"
    file.write_text(entry.replace("=", "=a-key"), encoding="utf-8")
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    monkeypatch.setenv(ENV_FILE_VARIABLE, str(file))

    assert list(environment) == ["POD_NAME", ENV_FILE_VARIABLE]  # in this order
    assert environment["POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert environment[ENV_FILE_VARIABLE]["value"] == f"{mounts['feed-keys']}/$(POD_NAME)"
    assert load_settings().finnhub_api_key.get_secret_value() == "a-key"


@every_container
def test_a_container_runs_a_command_that_exists(name):
    program, command, *options = CONTAINERS[name][1]["args"]

    assert program == "tapeline"
    load_command(command).make_context(command, options)


def test_the_symbols_are_a_list_of_symbols():
    (file,) = GENERATED["symbols"]["files"]
    _, producer = CONTAINERS["producer"]

    assert parse_symbols(names_in(FOLDER / file))
    (mount,) = (m["mountPath"] for m in producer["volumeMounts"] if m["name"] == "symbols")
    assert producer["args"][-1] == f"{mount}/{file}"


def test_the_image_is_the_projects():
    assert KUSTOMIZATION["images"] == [{"name": "tapeline", "newTag": __version__}]
    assert {container["image"] for _, container in CONTAINERS.values()} == {"tapeline"}


@every_workload
def test_what_is_referred_to_is_there(name):
    workload, pod = WORKLOADS[name], PODS[name]["spec"]
    references = list(everything_in(pod))

    for key, value in references:
        if key == "configMapRef" or (key == "configMap" and isinstance(value, dict)):
            assert value["name"] in GENERATED
        if key == "secretRef":
            assert value["name"] in SECRETS
        if key == "secretName":
            assert value in SECRETS
    claims = [c["metadata"]["name"] for c in workload["spec"].get("volumeClaimTemplates", [])]
    volumes = [v["name"] for v in pod["volumes"]] + claims
    mounted = {m["name"] for key, value in references if key == "volumeMounts" for m in value}
    assert sorted(mounted) == sorted(volumes)
    if workload["kind"] == "StatefulSet":
        assert workload["spec"]["serviceName"] in of_kind("Service")
    assert workload["spec"]["selector"]["matchLabels"] == PODS[name]["metadata"]["labels"]


def test_whatever_selects_pods_selects_some():
    selectors = [
        value.get("matchLabels", value)
        for o in OBJECTS
        for key, value in everything_in(o)
        if key in {"podSelector", "selector", "labelSelector"} and value
    ]

    assert len(selectors) > 5
    for selector in selectors:
        assert selector in [pod["metadata"]["labels"] for pod in PODS.values()]


def ports_of(name: str) -> dict[str, int]:
    ports = [p for c in PODS[name]["spec"]["containers"] for p in c.get("ports", [])]
    return {port["name"]: port["containerPort"] for port in ports}


def test_ports_are_those_on_which_the_parts_listen():
    assert ports_of("api") == {"http": API_PORT}
    assert ports_of("producer") == {"metrics": int(ENVIRONMENT["TAPELINE_METRICS__PRODUCER_PORT"])}
    assert ports_of("stream") == {"metrics": int(ENVIRONMENT["TAPELINE_METRICS__STREAM_PORT"])}
    for name, service in of_kind("Service").items():
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            assert target in {*ports_of(name), *ports_of(name).values()}
    for name, pod in PODS.items():
        for key, value in everything_in(pod):
            if key == "httpGet":
                assert value["port"] in ports_of(name)


def test_the_network_lets_through_what_is_needed():
    policies = {
        name: [p["port"] for key, value in everything_in(o) if key == "ports" for p in value]
        for name, o in of_kind("NetworkPolicy").items()
    }
    kafka = int(ENVIRONMENT["TAPELINE_KAFKA__BOOTSTRAP_SERVERS"].rpartition(":")[2])
    cassandra = int(ENVIRONMENT["TAPELINE_CASSANDRA__PORT"])

    assert policies == {
        "nothing-else": [],
        "names": [53, 53],
        "services": [kafka, cassandra],
        "feed": [443],
        "api": [API_PORT],
        "metrics": [*ports_of("producer").values(), *ports_of("stream").values(), API_PORT],
    }


@every_container
def test_a_container_has_no_rights_and_writes_to_its_volumes_alone(name):
    workload, container = CONTAINERS[name]
    pod = PODS[workload]["spec"]
    security = container["securityContext"]

    # What Pod Security's level `restricted` asks for, and more.
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    # A service `tapeline-api` would give variables that look like settings of ours.
    assert pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    mounts = {m["mountPath"] for m in container["volumeMounts"]}
    assert mounts >= {"/var/lib/tapeline", "/tmp"}  # noqa: S108 - the container's
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize(("name", "probe"), [("api", "livenessProbe"), ("api", "readinessProbe")])
def test_the_api_is_asked_at_paths_that_it_has(name, probe):
    from tapeline.api.app import create_app  # noqa: PLC0415 - slow, and for this test alone

    path = CONTAINERS[name][1][probe]["httpGet"]["path"]

    assert path in create_app(Settings()).openapi()["paths"]


def test_a_producer_is_ready_when_it_hears_the_feed():
    _, producer = CONTAINERS["producer"]
    python, script, *arguments = producer["readinessProbe"]["exec"]["command"]

    assert python == "python"
    assert (ROOT / script).is_file()
    assert arguments == ["producer"]
    # Trades may be a minute late: for so long two hear the feed before one is replaced.
    assert WORKLOADS["producer"]["spec"]["minReadySeconds"] == 60
    assert WORKLOADS["stream"]["spec"]["replicas"] == 1
