"""The manifests: of the right form, hardened, and true: commands, ports, secrets and files that they name are there."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from citybrain.cityfile import load_city
from tests.deploy.kustomize import Document, built, containers, find
from tests.deploy.reading import DEPLOY, PINNED, parsed

FOLDER = DEPLOY / "kubernetes"
OVERLAYS = ["demo", "production"]
MADE = {name: built(FOLDER / "overlays" / name) for name in OVERLAYS}
OURS = ["topics-apply", "store-init", "ingest", "worker", "serve"]
VERSIONS = ["1.33", "1.37"]
kubernetes_validate: Any = importlib.import_module("kubernetes_validate")  # brings no types

overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def makers(made: list[Document]) -> list[Document]:
    """Return what makes pods."""
    return [each for each in made if containers(each)]


def pod(document: Document) -> Document:
    found: Document = document["spec"]["template"]["spec"]
    return found


def ours(made: list[Document]) -> list[Document]:
    return [each for each in makers(made) if each["metadata"]["name"] in OURS]


@overlays
@pytest.mark.parametrize("version", VERSIONS)
def test_every_document_has_the_form_that_the_cluster_knows(overlay: str, version: str) -> None:
    assert len(MADE[overlay]) > 15
    for each in MADE[overlay]:
        kubernetes_validate.validate(each, version, strict=True)


def test_the_form_is_really_checked() -> None:
    wrong = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@overlays
def test_every_name_is_used_once(overlay: str) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in MADE[overlay]]
    assert len(set(names)) == len(names)


@overlays
def test_what_runs_is_a_command_of_ours_with_options_that_exist(overlay: str) -> None:
    assert sorted(each["metadata"]["name"] for each in ours(MADE[overlay])) == sorted(OURS)
    for each in ours(MADE[overlay]):
        seen = parsed(containers(each)[0]["args"])
        assert seen["command"].replace(" ", "-") == each["metadata"]["name"]
        assert (seen["city"], seen["data_folder"]) == (Path("/city"), Path("/data"))


@overlays
def test_no_pod_has_rights_that_it_does_not_need(overlay: str) -> None:
    for each in makers(MADE[overlay]):
        spec, name = pod(each), each["metadata"]["name"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["serviceAccountName"] == "citybrain", name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        for container in containers(each):
            secure = container["securityContext"]
            assert secure["allowPrivilegeEscalation"] is False, name
            assert secure["capabilities"]["drop"] == ["ALL"], name
            assert set(secure["capabilities"].get("add", [])) <= {"NET_BIND_SERVICE"}, name
            assert "hostPath" not in str(spec.get("volumes")), name
            if name in OURS:
                assert secure["readOnlyRootFilesystem"] is True, name


@overlays
def test_every_container_says_what_it_needs_and_its_image_is_pinned(overlay: str) -> None:
    for each in makers(MADE[overlay]):
        for container in containers(each):
            assert set(container["resources"]["requests"]) >= {"cpu", "memory"}, container["name"]
            assert set(container["resources"]["limits"]) >= {"cpu", "memory"}, container["name"]
            assert re.fullmatch(PINNED, container["image"]), container["image"]


@overlays
def test_what_runs_on_is_probed_at_a_port_that_it_opens(overlay: str) -> None:
    for each in ours(MADE[overlay]):
        if each["kind"] == "Job":
            continue
        probed = set()
        for container in containers(each):
            ports = {port["name"] for port in container.get("ports", [])}
            probes = {key: value for key, value in container.items() if key.endswith("Probe")}
            probed |= set(probes)
            asked = [probe.get("httpGet", probe.get("tcpSocket", {})).get("port") for probe in probes.values()]
            assert {port for port in asked if port} <= ports
        assert probed == {"startupProbe", "livenessProbe", "readinessProbe"}, each["metadata"]["name"]
    for name in ("worker", "ingest"):
        container = containers(find(MADE[overlay], "Deployment", name))[0]
        seen = parsed(container["args"])
        assert (seen["ops_host"], seen["ops_port"]) == ("0.0.0.0", container["ports"][0]["containerPort"])


@overlays
def test_the_page_listens_at_loopback_and_one_proxy_opens_it(overlay: str) -> None:
    serve = find(MADE[overlay], "Deployment", "serve")
    assert (serve["spec"]["replicas"], serve["spec"]["strategy"]) == (1, {"type": "Recreate"})
    page, proxy = containers(serve)
    seen = parsed(page["args"])
    assert seen["host"] == "127.0.0.1"
    assert "ports" not in page
    assert f"127.0.0.1:{seen['port']}/health" in " ".join(page["livenessProbe"]["exec"]["command"])
    caddy = find(MADE[overlay], "ConfigMap", "page-proxy")["data"]["Caddyfile"]
    assert f"reverse_proxy 127.0.0.1:{seen['port']}" in caddy
    for port in proxy["ports"]:
        assert f"//:{port['containerPort']} {{" in caddy
    service = find(MADE[overlay], "Service", "page")
    assert service["spec"]["selector"].items() <= serve["spec"]["template"]["metadata"]["labels"].items()
    assert service["spec"]["ports"][0]["targetPort"] in {port["name"] for port in proxy["ports"]}


@overlays
def test_what_is_mounted_is_there(overlay: str) -> None:
    made = MADE[overlay]
    for each in makers(made):
        spec = pod(each)
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        claimed = {claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", [])}
        used = {mount["name"] for container in containers(each) for mount in container["volumeMounts"]}
        assert used == set(volumes) | claimed, each["metadata"]["name"]
        for volume in volumes.values():
            if "configMap" in volume:
                find(made, "ConfigMap", volume["configMap"]["name"])
            if "persistentVolumeClaim" in volume:
                find(made, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
            if "secret" in volume:
                assert volume["secret"]["secretName"] == "citybrain"


@overlays
def test_workers_go_one_by_one_and_spread_over_nodes(overlay: str) -> None:
    worker = find(MADE[overlay], "Deployment", "worker")
    labels = worker["spec"]["template"]["metadata"]["labels"]
    budget = find(MADE[overlay], "PodDisruptionBudget", "worker")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    spread = pod(worker)["topologySpreadConstraints"]
    assert {each["topologyKey"] for each in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert all(each["labelSelector"]["matchLabels"].items() <= labels.items() for each in spread)
    assert worker["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def selected(selector: Document, labels: dict[str, str]) -> bool:
    """Return whether a label selector takes these labels."""
    fits = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return fits and all(labels.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", []))


def allowed_out(made: list[Document], name: str) -> set[int]:
    """Return the ports that a pod of ours may speak to."""
    labels = {"app.kubernetes.io/name": name}
    policies = [each["spec"] for each in made if each["kind"] == "NetworkPolicy"]
    rules = [
        rule for spec in policies if selected(spec["podSelector"], labels) for rule in spec.get("egress", [])
    ]  # fmt: skip
    return {port["port"] for rule in rules for port in rule["ports"]}


@overlays
def test_nothing_is_reached_but_what_is_needed(overlay: str) -> None:
    made = MADE[overlay]
    default = find(made, "NetworkPolicy", "nothing-by-default")["spec"]
    assert default == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    kafka, stores, outside = {9092, 9093}, {8086, 5432}, {443}
    assert allowed_out(made, "worker") == {53} | kafka
    assert allowed_out(made, "topics-apply") == {53} | kafka
    assert allowed_out(made, "store-init") == {53} | stores
    assert allowed_out(made, "ingest") == {53, *kafka, *outside}
    assert allowed_out(made, "serve") == {53, *kafka, *stores, *outside}
    open_ports = {
        port["port"]
        for each in made
        if each["kind"] == "NetworkPolicy"
        and selected(each["spec"]["podSelector"], {"app.kubernetes.io/name": "serve"})
        for rule in each["spec"].get("ingress", [])
        for port in rule["ports"]
    }
    assert open_ports == {8443, 9464}


@overlays
def test_the_city_names_secrets_that_are_mounted_or_told_of(overlay: str) -> None:
    folder = FOLDER / "overlays" / overlay
    city = load_city(folder)
    files = {
        city.database_password_file, city.store.token_file, city.kafka.password_file, city.kafka.ca_file,
        *(hook.secret_file for hook in city.webhooks),
    } - {""}  # fmt: skip
    assert {str(Path(file).parent) for file in files} == {"/run/secrets"}
    page = (DEPLOY.parents[1] / "docs" / "production.md").read_text()
    script = (FOLDER / "overlays" / "demo" / "make-secrets.sh").read_text()
    told = script if overlay == "demo" else page
    assert [file for file in files if Path(file).name not in told] == []
    assert city.public_url.startswith("https://")


def test_production_s_kafka_keeps_copies_and_asks_who_it_is() -> None:
    kafka = tomllib.loads((FOLDER / "overlays" / "production" / "city.toml").read_text())["kafka"]
    assert kafka["replication"] > kafka["min_insync_replicas"] > 1
    assert kafka["security"] == "sasl_ssl"
    autoscaler = find(MADE["production"], "HorizontalPodAutoscaler", "worker")["spec"]
    assert "replicas" not in find(MADE["production"], "Deployment", "worker")["spec"]
    assert autoscaler["scaleTargetRef"]["name"] == "worker"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl; its kustomize is compared with ours")
@overlays
def test_kustomize_makes_the_same_documents(overlay: str) -> None:
    command = ["kubectl", "kustomize", str(FOLDER / "overlays" / overlay)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    theirs = {(each["kind"], re.sub(r"-[a-z0-9]{10}$", "", each["metadata"]["name"])): each
              for each in yaml.safe_load_all(text)}  # fmt: skip
    ours_ = {(each["kind"], each["metadata"]["name"]): each for each in MADE[overlay]}
    assert set(theirs) == set(ours_)
    for key, each in ours_.items():
        if containers(each):
            assert [c["image"] for c in containers(theirs[key])] == [c["image"] for c in containers(each)]
            assert [c.get("resources") for c in containers(theirs[key])] == [c["resources"] for c in containers(each)]
