"""A real HDFS: a name node and a data node of the version whose client PySpark brings."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from rich.console import Console

from tapeline.consumer.own_spark import own_spark_home
from tapeline.local.home import Home
from tapeline.local.jars import JarSet, fetch_jars, jar_folder
from tapeline.local.java import find_java, java_environment
from tapeline.local.service import LOOPBACK
from tests.cluster.member import Member, own_ports

SERVERS: Final = JarSet(
    "hdfs-3.3.4",
    ("org.apache.hadoop:hadoop-client-minicluster:3.3.4",),
    about_jars=9,
    about_mb=89,
)
_CHECKSUMS: Final = Path(__file__).with_name("jars.sha256")
_NAME_NODE: Final = "org.apache.hadoop.hdfs.server.namenode.NameNode"
_DATA_NODE: Final = "org.apache.hadoop.hdfs.server.datanode.DataNode"
_STATE: Final = "Hadoop:service=NameNode,name=FSNamesystem"
_SMALL: Final = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_OPENS: Final = ("java.lang", "java.util", "java.util.concurrent", "java.net", "java.nio")


@dataclass
class Hdfs:
    """Its nodes, and the URI of its root."""

    names: Member
    data: Member
    uri: str

    def start(self) -> None:
        self.names.start()
        self.data.start()
        self.names.await_answer()

    def end(self) -> None:
        self.data.end()
        self.names.end()


@contextmanager
def running_hdfs(home: Home, folder: Path) -> Iterator[Hdfs]:
    """Run one for a while; its jars are fetched once, and stay beside those of the home."""
    lines = _CHECKSUMS.read_text(encoding="utf-8").splitlines()
    checksums = dict(line.split(" ") for line in lines)
    fetch_jars(home.jars, [SERVERS], find_java(), Console(), checksums=checksums)
    hdfs = make_hdfs(jar_folder(home.jars, SERVERS), folder)
    try:
        hdfs.start()
        yield hdfs
    finally:
        hdfs.end()


def make_hdfs(jars: Path, folder: Path) -> Hdfs:
    """Write its settings and format the name node."""
    rpc, web, transfer, data_web, ipc = own_ports(5)
    settings = folder / "settings"
    settings.mkdir(parents=True)
    uri = f"hdfs://{LOOPBACK}:{rpc}"
    _write(settings / "core-site.xml", {"fs.defaultFS": uri, "hadoop.tmp.dir": str(folder)})
    _write(
        settings / "hdfs-site.xml",
        {
            "dfs.namenode.name.dir": (folder / "names").as_uri(),
            "dfs.datanode.data.dir": (folder / "data").as_uri(),
            "dfs.namenode.http-address": f"{LOOPBACK}:{web}",
            "dfs.datanode.address": f"{LOOPBACK}:{transfer}",
            "dfs.datanode.http.address": f"{LOOPBACK}:{data_web}",
            "dfs.datanode.ipc.address": f"{LOOPBACK}:{ipc}",
            "dfs.replication": "1",
            "dfs.namenode.safemode.extension": "0",
            "dfs.namenode.handler.count": "4",
        },
    )
    java_home = find_java()
    environment = java_environment(java_home)
    shipped = own_spark_home() / "jars"
    class_path = [settings, jars / "*", shipped / "*"]
    java = [
        java_home / "bin" / "java",
        *_SMALL,
        *(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in _OPENS),
        *("-cp", ":".join(map(str, class_path))),
    ]
    run = subprocess.run(
        [*java, _NAME_NODE, "-format", "-nonInteractive"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr

    def answers() -> bool:
        return _is_writable(web)

    names = Member("name node", [*java, _NAME_NODE], environment, folder / "name-node", answers)
    data = Member("data node", [*java, _DATA_NODE], environment, folder / "data-node", answers)
    return Hdfs(names, data, uri)


def _is_writable(web: int) -> bool:
    """Return whether the name node knows its data node and takes files."""
    try:
        answer = httpx.get(f"http://{LOOPBACK}:{web}/jmx", params={"qry": f"{_STATE}*"}, timeout=5)
        beans = answer.raise_for_status().json()["beans"]
    except httpx.HTTPError:
        return False
    state = {name: value for bean in beans for name, value in bean.items()}
    return state.get("FSState") == "Operational" and state.get("NumLiveDataNodes") == 1


def _write(file: Path, properties: Mapping[str, str]) -> None:
    lines = (
        f"<property><name>{name}</name><value>{value}</value></property>"
        for name, value in properties.items()
    )
    file.write_text(f"<configuration>{''.join(lines)}</configuration>", encoding="utf-8")
