"""The Compose file: of the right form, and true: its commands, files and secrets are there, its ports loopback's."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from citybrain.cityfile import load_city
from tests.conftest import ROOT
from tests.deploy.reading import DEPLOY, PINNED, jsonschema, parsed

FOLDER = DEPLOY / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ["topics-apply", "store-init", "ingest", "worker", "serve"]
ONCE = OURS[:2]


def compose_schema() -> Any:
    # The package itself is not imported: it would load its command line.
    found = importlib.util.find_spec("check_jsonschema")
    assert found is not None
    assert found.submodule_search_locations is not None
    folder = Path(found.submodule_search_locations[0])
    return json.loads((folder / "builtin_schemas" / "vendor" / "compose-spec.json").read_text())


def errors_of(document: Any) -> list[str]:
    schema = compose_schema()
    checker = jsonschema.validators.validator_for(schema)(schema)
    return [f"{list(error.path)}: {error.message}" for error in checker.iter_errors(document)]


def file_mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (source, rest) of each mount of a file beside the Compose file."""
    split = [mount.split(":", 1) for mount in service.get("volumes", [])]
    return [(source, rest) for source, rest in split if source.startswith(".")]


def test_it_has_the_form_of_a_compose_file() -> None:
    assert errors_of(COMPOSE) == []


def test_the_form_is_really_checked() -> None:
    assert errors_of({"services": {"a": {"imagee": "x"}}}) != []


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_commands_that_exist_with_options_that_exist(name: str) -> None:
    seen = parsed(SERVICES[name]["command"])
    assert seen["city"] == Path("/city")
    assert seen["data_folder"] == Path("/data")
    assert seen["command"].replace(" ", "-") == name


def test_our_services_write_nothing_but_data_and_have_no_rights() -> None:
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"] is True, name
        assert service["user"] == "10001:10001", name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert [mount for mount in service["volumes"] if not mount.startswith(("./city.toml", "city-data:/data"))] == []


def test_every_image_is_pinned() -> None:
    images = {name: re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", service["image"]) for name, service in SERVICES.items()}
    assert {name: image for name, image in images.items() if not re.fullmatch(PINNED, image)} == {}


def test_ports_are_opened_at_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_every_service_has_limits_and_comes_back() -> None:
    for name, service in SERVICES.items():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert service["restart"] == ("on-failure:10" if name in ONCE else "unless-stopped"), name
        assert service["logging"]["options"]["max-size"], name


def test_what_listens_tells_how_it_is() -> None:
    # Our own services have the image's check; the holder of the network and the jobs have nothing to tell.
    silent = {name for name, service in SERVICES.items() if "healthcheck" not in service}
    assert silent == {"ingest", "worker", "serve", "page"}
    assert SERVICES["serve"]["environment"]["HEALTH_URL"] == "http://127.0.0.1:8050/health"
    for name in ("ingest", "worker"):
        seen = parsed(SERVICES[name]["command"])
        assert (seen["ops_host"], seen["ops_port"]) == ("0.0.0.0", 9464)


def test_mounted_files_are_there_and_cannot_be_changed() -> None:
    mounts = [(name, *mount) for name, service in SERVICES.items() for mount in file_mounts(service)]
    assert len(mounts) >= 6
    assert [mount for mount in mounts if not (FOLDER / mount[1]).is_file() or not mount[2].endswith(":ro")] == []


def test_names_that_are_used_are_declared_and_none_is_left_over() -> None:
    for kind in ("volumes", "secrets", "networks"):
        used = {
            each.split(":")[0]
            for service in SERVICES.values()
            for each in service.get(kind, [])
            if not each.startswith((".", "/"))
        }
        assert used == set(COMPOSE[kind]), kind


def test_what_a_service_waits_for_can_happen() -> None:
    for name, service in SERVICES.items():
        waits = service.get("depends_on", {})
        for other, how in waits.items() if isinstance(waits, dict) else [(each, {}) for each in waits]:
            assert other in SERVICES, name
            if how.get("condition") == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], (name, other)
            if how.get("condition") == "service_completed_successfully":
                assert other in ONCE


def test_the_page_is_behind_its_proxy() -> None:
    shared = {name for name, service in SERVICES.items() if service.get("network_mode") == "service:page"}
    assert shared == {"serve", "proxy"}
    assert all("networks" not in SERVICES[name] and "ports" not in SERVICES[name] for name in shared)
    assert parsed(SERVICES["serve"]["command"])["host"] == "127.0.0.1"
    assert COMPOSE["networks"]["inside"]["internal"] is True


def test_brokers_and_stores_reach_nobody_outside() -> None:
    assert all(SERVICES[name]["networks"] == ["inside"] for name in ("kafka", "influxdb", "postgres", "worker"))


def test_no_secret_stands_in_the_file_and_the_folder_of_secrets_is_kept_out_of_git() -> None:
    assert all(set(secret) == {"file"} for secret in COMPOSE["secrets"].values())
    assert all(secret["file"].startswith("secrets/") for secret in COMPOSE["secrets"].values())
    words = re.findall(r"(?i)\b\w*(?:password|token)\w*: (\S+)", (FOLDER / "compose.yaml").read_text())
    assert [word for word in words if not word.startswith(("/run/secrets/", "{file:"))] == []
    assert "infra/deploy/compose/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_city_names_the_services_and_secrets_that_are_there() -> None:
    city = load_city(FOLDER)
    assert city.kafka.brokers == "kafka:9092"
    assert city.store.url == "http://influxdb:8086"
    assert "@postgres/" in city.database_url
    files = [city.database_password_file, city.store.token_file]
    given = {name for service in OURS for name in SERVICES[service]["secrets"]}
    assert {Path(file) for file in files} == {Path("/run/secrets") / name for name in given}


def test_the_script_makes_every_secret_but_the_users_and_keeps_what_is_there(tmp_path: Path) -> None:
    script = ["sh", str(FOLDER / "make-secrets.sh"), str(tmp_path / "made")]
    subprocess.run(script, check=True, capture_output=True)
    made = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    assert set(made) == set(COMPOSE["secrets"]) - {"page-users"}
    assert len(set(made.values())) == len(made)
    assert all(len(made[name]) == 48 for name in made if not name.startswith("tls"))
    again = subprocess.run(script, check=True, capture_output=True, text=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()} == made
    assert "page-users" in again.stdout
