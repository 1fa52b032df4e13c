"""The systemd units: known directives, real commands, hardened, and started again with a pause that grows."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from citybrain.cityfile import load_city
from tests.conftest import ROOT
from tests.deploy.reading import DEPLOY, parsed

FOLDER = DEPLOY / "systemd"
UNITS = sorted(path.name for path in FOLDER.glob("citybrain*"))
SERVICES = [name for name in UNITS if name.endswith(".service")]
OURS = [name for name in SERVICES if name not in {"citybrain-broker.service", "citybrain-proxy.service"}]
ONCE = ["citybrain-store.service", "citybrain-topics.service"]

ALLOWED = {
    "Unit": "Description After Before Wants PartOf StartLimitIntervalSec",
    "Install": "WantedBy",
    "Service": (
        "Type User Group ExecStart Restart RestartSec RestartSteps RestartMaxDelaySec TimeoutStopSec TimeoutStartSec "
        "KillSignal SuccessExitStatus StateDirectory StateDirectoryMode LogsDirectory WorkingDirectory Environment "
        "MemoryMax TasksMax LimitNOFILE RemainAfterExit BindReadOnlyPaths NoNewPrivileges CapabilityBoundingSet "
        "AmbientCapabilities ProtectSystem ProtectHome ProtectProc PrivateTmp PrivateDevices ProtectClock "
        "ProtectHostname ProtectControlGroups ProtectKernelLogs ProtectKernelModules ProtectKernelTunables "
        "RestrictAddressFamilies RestrictNamespaces RestrictRealtime RestrictSUIDSGID LockPersonality RemoveIPC "
        "SystemCallArchitectures SystemCallFilter SystemCallErrorNumber UMask"
    ),
}
"""Directives of systemd.unit(5), systemd.service(5), systemd.exec(5) and systemd.resource-control(5) used here."""
HARDENED = {
    "NoNewPrivileges": "true", "CapabilityBoundingSet": "", "ProtectSystem": "strict", "ProtectHome": "true",
    "PrivateTmp": "true", "PrivateDevices": "true", "ProtectKernelModules": "true", "ProtectControlGroups": "true",
    "RestrictNamespaces": "true", "RestrictSUIDSGID": "true", "LockPersonality": "true", "UMask": "0027",
}  # fmt: skip

Unit = dict[str, list[tuple[str, str]]]


def read(text: str) -> Unit:
    """Return (directive, value) by section; raises where a line is none."""
    sections: Unit = {}
    section = ""
    for line in text.splitlines():
        if not line.strip() or line.startswith(("#", ";")):
            continue
        if found := re.fullmatch(r"\[(\w+)\]", line):
            section = found[1]
            sections[section] = []
            continue
        directive = re.fullmatch(r"([A-Z]\w+)=(.*)", line)
        assert directive is not None, line
        sections[section].append((directive[1], directive[2]))
    return sections


def unknown(unit: Unit) -> list[str]:
    return [
        f"[{section}] {name}"
        for section, lines in unit.items()
        for name, _ in lines
        if name not in ALLOWED.get(section, "").split()
    ]


def service(name: str) -> dict[str, str]:
    return dict(read((FOLDER / name).read_text())["Service"])


@pytest.mark.parametrize("name", UNITS)
def test_every_directive_is_one_that_systemd_knows(name: str) -> None:
    unit = read((FOLDER / name).read_text())
    assert unknown(unit) == []
    assert unit["Unit"]
    assert unit["Install"]


def test_a_directive_of_another_section_is_found() -> None:
    assert unknown(read("[Unit]\nRestart=always\n[Service]\nExecStrat=/bin/true\n")) == [
        "[Unit] Restart",
        "[Service] ExecStrat",
    ]


@pytest.mark.parametrize("name", OURS)
def test_our_units_run_commands_that_exist_with_options_that_exist(name: str) -> None:
    program, *arguments = service(name)["ExecStart"].replace("%i", "1").split()
    assert program == "/opt/citybrain/bin/citybrain"
    seen = parsed(arguments)
    assert seen["command"].split()[0] == re.sub(r"citybrain-(\w+)@?\.service", r"\1", name)
    assert seen["city"] == Path("/etc/citybrain/city")
    assert seen["data_folder"] == Path("/var/lib") / service(name)["StateDirectory"]


def test_ports_for_operation_are_told_apart() -> None:
    told = [parsed(service(name)["ExecStart"].replace("%i", "1").split()[1:]) for name in OURS]
    ports = [seen["ops_port"] for seen in told if "ops_port" in seen] + [
        seen["port"] for seen in told if "port" in seen
    ]
    assert len(ports) == len(set(ports)) == 3
    assert 9464 not in ports  # the proxy's


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_rights_beyond_its_data(name: str) -> None:
    said = service(name)
    assert {key: said.get(key) for key in HARDENED} == HARDENED
    assert said["User"] == said["Group"] != "root"
    assert "@system-service" in (FOLDER / name).read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_comes_back_with_a_pause_and_stops_in_time(name: str) -> None:
    said = service(name)
    limits = dict(read((FOLDER / name).read_text())["Unit"])
    assert limits["StartLimitIntervalSec"] == "0"  # never given up
    assert int(said["TimeoutStopSec"]) >= 20
    if name in ONCE:
        assert (said["Type"], said["Restart"], said["RemainAfterExit"]) == ("oneshot", "on-failure", "yes")
    else:
        assert said["Restart"] == "always"
        assert int(said["RestartSec"]) < int(said["RestartMaxDelaySec"])
        assert int(said["RestartSteps"]) > 1


def test_what_units_want_is_there() -> None:
    elsewhere = {"network-online.target", "postgresql.service", "influxdb.service", "multi-user.target"}
    for name in UNITS:
        unit = read((FOLDER / name).read_text())
        wanted = [
            each
            for directive, value in [*unit["Unit"], *unit["Install"]]
            if directive in ("After", "Before", "Wants", "PartOf", "WantedBy")
            for each in value.split()
        ]
        there = {re.sub(r"@\w+\.", "@.", each) for each in wanted} - elsewhere
        assert there <= set(UNITS), name


def test_the_city_of_the_units_names_files_of_its_folder() -> None:
    city = load_city(FOLDER)
    for file in (city.database_password_file, city.store.token_file):
        assert Path(file).parent == Path("/etc/citybrain/secrets")
    properties = (FOLDER / "kafka.properties").read_text()
    assert f"advertised.listeners=PLAINTEXT://{city.kafka.brokers}\n" in properties
    assert all("0.0.0.0" not in line for line in properties.splitlines())
    page = (ROOT / "docs" / "production.md").read_text()
    assert [name for name in [*UNITS, "kafka.properties"] if name.split("@")[0].split(".")[0] not in page] == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_itself_finds_nothing_wrong(tmp_path: Path) -> None:
    for name in UNITS:
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", (FOLDER / name).read_text(), flags=re.M)
        text = re.sub(r"^(User|Group)=.*", r"\1=root", text, flags=re.M)
        (tmp_path / name.replace("@.", "@1.")).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={
        "SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin",
    })  # fmt: skip
    newer = ("RestartSteps", "RestartMaxDelaySec")  # systemd 254
    lines = [line for line in told.stderr.splitlines() if str(tmp_path) in line or "citybrain" in line]
    assert [line for line in lines if not any(name in line for name in newer)] == []
