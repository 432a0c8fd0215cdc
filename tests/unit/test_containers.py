"""The image and the compose file name things of the project: they must be what it has."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from tapeline import __version__
from tapeline.cli.app import load_command
from tapeline.local.jars import CASSANDRA_JARS, KAFKA_JARS, SPARK_JARS
from tapeline.local.java import REQUIRED_MAJOR
from tapeline.program.settings import API_KEY_VARIABLE, API_PORT, Settings, load_settings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SERVICES = yaml.safe_load(COMPOSE)["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("tapeline:")]
OBSERVERS = [name for name, service in SERVICES.items() if service.get("profiles") == ["observe"]]
LASTING = [name for name in SERVICES if not name.endswith("init")]
VARIABLES = dict(re.findall(r"^(?:ENV|   ) (\w+)=(\S+)", DOCKERFILE, re.MULTILINE))
"""Of the image, by name."""
SPARK_DEFAULTS = dict(
    line.split()
    for line in (ROOT / "deploy/spark/spark-defaults.conf").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)


def setting_variables(model: type[BaseModel], prefix: str = "TAPELINE_") -> set[str]:
    names = set()
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names |= setting_variables(field.annotation, f"{variable}__")
        else:
            names.add(variable)
    return names


def environment_of(service: str) -> dict[str, str]:
    """Return a service's environment with the defaults of what compose would fill in."""
    environment = SERVICES[service].get("environment", {})
    return {k: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(v)) for k, v in environment.items()}


@pytest.fixture
def settings_of(monkeypatch):
    def load(service: str) -> Settings:
        for name in os.environ:
            if name.startswith("TAPELINE_") or name == API_KEY_VARIABLE:
                monkeypatch.delenv(name)
        for name, value in environment_of(service).items():
            monkeypatch.setenv(name, value)
        return load_settings()

    return load


def test_every_variable_is_a_setting():
    named = set(re.findall(r"TAPELINE_\w+", COMPOSE + DOCKERFILE))

    assert "TAPELINE_STREAM__MASTER" in named
    assert named - setting_variables(Settings) == set()


@pytest.mark.parametrize("service", [s for s in OURS if s != "spark-worker"])
def test_simulated_trades_stay_apart_from_the_feeds(service, settings_of):
    settings = settings_of(service)

    is_simulated = service.startswith("simulat")
    target = (settings.kafka.topic, settings.cassandra.keyspace)
    assert target == (("demo", "demo") if is_simulated else ("trades_raw", "market_data"))
    assert SERVICES[service].get("profiles") == {
        "simulator": ["simulated"],
        "spark-master": None,
    }.get(service, ["simulated"] if is_simulated else ["app"])


@pytest.mark.parametrize("service", [s for s in OURS if not s.startswith("spark")])
def test_a_service_runs_a_command_that_exists(service):
    program, first, *rest = SERVICES[service]["command"]

    if program == "python":
        assert (ROOT / first).is_file()
    else:
        assert program == "tapeline"
        command = load_command(first)
        command.make_context(first, rest)


def test_the_versions_are_those_of_the_project():
    assert {SERVICES[name]["image"] for name in SERVICES if name not in OBSERVERS} == {
        f"apache/kafka:{KAFKA_JARS.coordinates[0].split(':')[2]}",
        f"cassandra:{CASSANDRA_JARS.coordinates[0].split(':')[2]}",
        f"tapeline:{__version__}",
    }
    assert f" openjdk-{REQUIRED_MAJOR}-jre-headless " in DOCKERFILE
    packages = ",".join(SPARK_JARS.coordinates)
    assert packages in (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")


def test_every_published_port_is_on_loopback():
    ports = {s: service["ports"] for s, service in SERVICES.items() if "ports" in service}

    assert ports == {
        "kafka": ["127.0.0.1:9092:9092"],
        "cassandra": ["127.0.0.1:9042:9042"],
        "spark-master": ["127.0.0.1:8080:8080"],
        "api": [f"127.0.0.1:{API_PORT}:{API_PORT}"],
        "simulated-api": [f"127.0.0.1:8701:{API_PORT}"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


@pytest.mark.parametrize("service", LASTING)
def test_what_lasts_is_checked_limited_and_started_again(service):
    assert SERVICES[service]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert SERVICES[service]["restart"] == "unless-stopped"
    assert SERVICES[service]["mem_limit"]
    assert SERVICES[service]["cpus"] > 0
    assert SERVICES[service]["logging"]["options"]["max-size"]


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_may_become_more_than_it_is(service):
    assert SERVICES[service]["cap_drop"] == ["ALL"]
    assert "cap_add" not in SERVICES[service]
    assert SERVICES[service]["security_opt"] == ["no-new-privileges:true"]
    assert not SERVICES[service].get("privileged")


@pytest.mark.parametrize("service", OURS)
def test_our_image_is_read_only_but_for_its_home_and_a_folder_in_memory(service):
    written = {
        *(volume.partition(":")[2] for volume in SERVICES[service]["volumes"]),
        *(mount.partition(":")[0] for mount in SERVICES[service]["tmpfs"]),
    }

    assert SERVICES[service]["read_only"] is True
    assert written == {VARIABLES["TAPELINE_HOME"], "/tmp"}  # noqa: S108 - the container's
    assert Path(VARIABLES["SPARK_WORKER_DIR"]).parent.as_posix() in written
    # Without it Java cannot load the libraries that it unpacks: zstd, lz4, snappy.
    (memory,) = SERVICES[service]["tmpfs"]
    assert "exec" in memory.partition(":")[2].split(",")


def test_the_image_is_built_on_one_version_and_does_not_run_as_root():
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", DOCKERFILE, re.MULTILINE)
    names = {name for _, name in stages}
    foreign = {image for image, _ in stages if image not in names}

    (base,) = foreign
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base)
    user = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert user == ["1000:1000"]
    assert len(stages) > 1  # what builds it is not in it
    assert set(re.findall(r"COPY --from=(\S+)", DOCKERFILE)) <= names


@pytest.mark.parametrize("profile", ["", "app", "simulated"])
def test_a_profile_has_all_that_its_services_wait_for(profile):
    def runs(service: str) -> bool:
        return set(SERVICES[service].get("profiles", [profile])) >= {profile}

    for name in filter(runs, SERVICES):
        for needed, how in SERVICES[name].get("depends_on", {}).items():
            assert runs(needed), (name, needed)
            is_checked = "healthcheck" in SERVICES[needed]
            assert is_checked == (how["condition"] == "service_healthy")


def test_the_parts_find_each_other(settings_of):
    settings = settings_of("stream")
    kafka = environment_of("kafka")

    assert f"://{settings.kafka.bootstrap_servers}," in kafka["KAFKA_ADVERTISED_LISTENERS"]
    assert settings.cassandra.host in SERVICES
    master = settings.stream.master
    assert SPARK_DEFAULTS["spark.master"] == master
    assert SERVICES["spark-worker"]["command"][-1] == master
    host, port = re.fullmatch(r"spark://(.+):(\d+)", master).groups()
    command = SERVICES["spark-master"]["command"]
    assert command[command.index("--host") + 1] == host == "spark-master"
    assert command[command.index("--port") + 1] == port


def test_a_worker_has_room_for_both_streams():
    worker = SERVICES["spark-worker"]["command"]

    assert int(worker[worker.index("--cores") + 1]) == 2 * int(SPARK_DEFAULTS["spark.cores.max"])
    assert SPARK_DEFAULTS["spark.executor.memory"] == "1g"
    assert worker[worker.index("--memory") + 1] == "2g"


@pytest.mark.parametrize("service", OURS)
def test_checkpoints_are_at_one_path_everywhere(service):
    assert f"home:{VARIABLES['TAPELINE_HOME']}" in SERVICES[service]["volumes"]


def test_the_key_comes_from_outside_and_only_to_the_producer():
    holders = {
        name: service["environment"][API_KEY_VARIABLE]
        for name, service in SERVICES.items()
        if API_KEY_VARIABLE in service.get("environment", {})
    }

    assert holders == {"producer": "${FINNHUB_API_KEY:-}", "simulated-producer": "simulated"}
    assert not any(API_KEY_VARIABLE in str(s.get("command")) for s in SERVICES.values())
    assert API_KEY_VARIABLE not in DOCKERFILE


def test_what_observes_is_of_one_version_and_may_do_little():
    assert OBSERVERS == ["prometheus", "grafana"]
    for service in (SERVICES[name] for name in OBSERVERS):
        assert re.fullmatch(r"(prom/prometheus:v3|grafana/grafana:13)\.\d+\.\d+", service["image"])
        assert int(service["user"].partition(":")[0]) > 0
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("watched", ["app", "simulated"])
def test_what_observes_gets_files_of_the_project_that_it_cannot_write(watched):
    mounts = [volume for name in OBSERVERS for volume in SERVICES[name]["volumes"]]
    files = [m.replace("${WATCHED:-app}", watched) for m in mounts if m.startswith("./")]
    assert len(files) == len(mounts) - len(OBSERVERS)  # the rest keeps what each has written
    for source, _, mode in (file.split(":") for file in files):
        assert (ROOT / source).exists()
        assert mode == "ro"


@pytest.mark.parametrize(("watched", "before"), [("app", ""), ("simulated", "simulated-")])
def test_prometheus_finds_the_parts_of_a_profile(watched, before, settings_of):
    path = ROOT / f"deploy/prometheus/targets/{watched}.yml"
    targets = yaml.safe_load(path.read_text(encoding="utf-8"))

    metrics = settings_of(f"{before}stream").metrics
    assert metrics == settings_of(f"{before}producer").metrics
    assert metrics.host == "0.0.0.0"  # noqa: S104 - in the containers' own network
    assert targets == [
        {"targets": [f"{before}producer:{metrics.producer_port}"], "labels": {"part": "producer"}},
        {"targets": [f"{before}stream:{metrics.stream_port}"], "labels": {"part": "stream"}},
        {"targets": [f"{before}api:{API_PORT}"], "labels": {"part": "api"}},
    ]
    assert all(
        SERVICES[t["targets"][0].partition(":")[0]]["profiles"] == [watched] for t in targets
    )


def test_grafana_finds_prometheus_and_the_dashboard():
    folder = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((folder / "dashboards/tapeline.yml").read_text())["providers"]
    mounted = dict(v.split(":")[:2] for v in SERVICES["grafana"]["volumes"])

    assert source["url"] == "http://prometheus:9090"
    assert provider["options"]["path"] == mounted["./deploy/grafana/dashboards"]
    assert mounted["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
