"""Dashboard and alert rules speak of metrics that exist, with labels that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from citybrain.metrics import METRICS
from tests.conftest import ROOT
from tests.deploy.reading import DEPLOY

FOLDER = DEPLOY / "monitoring"
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
SCRAPES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

OTHERS = {
    "up": (),
    "node_filesystem_avail_bytes": ("fstype", "mountpoint"),
    "node_filesystem_size_bytes": ("fstype", "mountpoint"),
    "kubelet_volume_stats_available_bytes": ("namespace", "persistentvolumeclaim"),
    "kubelet_volume_stats_capacity_bytes": ("namespace", "persistentvolumeclaim"),
    "process_resident_memory_bytes": (),
    "process_cpu_seconds_total": (),
}
"""What the exporters beside us show, with the labels used here."""
NAME = re.compile(r"\b(?:citybrain|node|kubelet|process)_\w+|\bup\b")
ROWS = [
    "Flow", "Lag", "Watermark delay", "Late and dead letters by reason", "Checkpoints", "State size", "Restore",
    "Store writes", "Webhooks", "Live page",
]  # fmt: skip


def queries() -> Iterator[tuple[str, str, str]]:
    """Give (where, expression, text that names labels) of every query."""
    for rule in RULES:
        said = " ".join(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        yield rule["alert"], rule["expr"], said
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], " ".join(re.findall(r"{{(\w+)}}", target["legendFormat"]))


QUERIES = list(queries())


def base_of(name: str) -> str:
    """Return the metric of the table that a name on the wire belongs to."""
    cut = re.sub(r"_(bucket|count|sum)$", "", name)
    found = METRICS.get(cut)  # type: ignore[call-overload]
    return cut if found is not None and found.kind == "histogram" else name


def labels_of(name: str) -> set[str]:
    metric = METRICS.get(base_of(name))  # type: ignore[call-overload]
    own = OTHERS[name] if metric is None else metric.labels
    return {*own, "job", "instance"} | ({"le"} if name.endswith("_bucket") else set())


def problems(expr: str, said: str) -> list[str]:
    """Return what is wrong with a query: unknown metrics, labels that they do not have, rates of what is no counter."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    names = [name for name in NAME.findall(bare) if name not in {"job", "instance"}]
    wrong = [name for name in names if base_of(name) not in METRICS and name not in OTHERS]
    if wrong or not names:
        return wrong or ["no metric"]
    allowed = set.union(*(labels_of(name) for name in names))
    grouped = [set(re.findall(r"\w+", each)) for each in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", bare)]
    selected = set(re.findall(r"[{,]\s*(\w+)\s*[!=]", bare))
    wrong += sorted((set.union(selected, *grouped)) - allowed)
    kept = set.union(*grouped) if re.search(r"\bby\b", bare) else allowed
    wrong += sorted(set(said.split()) - kept)
    for rated in re.findall(r"\b(?:rate|increase)\((\w+)", bare):
        metric = METRICS.get(base_of(rated))  # type: ignore[call-overload]
        counts = rated in OTHERS or (metric is not None and metric.kind in ("counter", "histogram"))
        wrong += [] if counts else [f"rate of {rated}"]
    return wrong + ([] if bare.count("(") == bare.count(")") else ["brackets"])


@pytest.mark.parametrize(("where", "expr", "said"), QUERIES, ids=[f"{at}-{q[0]}" for at, q in enumerate(QUERIES)])
def test_every_query_speaks_of_metrics_and_labels_that_exist(where: str, expr: str, said: str) -> None:
    assert problems(expr, said) == [], where


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        ("rate(citybrain_no_such_total[5m])", ""),
        ('citybrain_lag_messages{reason="late"}', ""),
        ("sum by (stage) (citybrain_lag_messages)", "partition"),
        ("rate(citybrain_lag_messages[5m])", ""),
        ("sum by (endpoint) (citybrain_lag_messages)", ""),
        ("sum(citybrain_lag_messages", ""),
    ],
)
def test_a_query_that_is_wrong_is_found(expr: str, said: str) -> None:
    assert problems(expr, said) != []


def test_every_rule_says_how_grave_it_is_what_it_means_and_where_to_read_on() -> None:
    headings = {
        re.sub(r"[^\w-]", "", line.lstrip("# ").lower().replace(" ", "-"))
        for line in (ROOT / "docs" / "operation.md").read_text().splitlines()
        if line.startswith("#")
    }
    for rule in RULES:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert re.fullmatch(r"\d+m", rule["for"])
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        page, anchor = rule["annotations"]["runbook_url"].split("#")
        assert page == "docs/operation.md"
        assert anchor in headings, rule["alert"]
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_jobs_that_queries_name_are_those_that_are_scraped() -> None:
    jobs = {scrape["job_name"] for scrape in SCRAPES}
    named = {job for _, expr, _ in QUERIES for job in re.findall(r'job="([^"]+)"', expr)}
    assert named <= jobs
    assert {"citybrain-worker", "citybrain-ingest", "citybrain-serve"} <= jobs


def test_what_is_scraped_is_a_service_of_the_compose_file_at_its_port() -> None:
    services = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]
    for scrape in SCRAPES:
        names = [name for found in scrape.get("dns_sd_configs", []) for name in found["names"]]
        hosts = [target.split(":")[0] for found in scrape.get("static_configs", []) for target in found["targets"]]
        assert set(names + hosts) <= set(services), scrape["job_name"]


def test_the_dashboard_has_a_row_for_each_part_and_panels_that_do_not_overlap() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert [row for row in ROWS if row not in rows] == []
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_metric_of_ours_is_watched_somewhere() -> None:
    seen = {base_of(name) for _, expr, _ in QUERIES for name in NAME.findall(expr)}
    assert sorted(set(METRICS) - seen) == []


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    source = yaml.safe_load((FOLDER / "grafana-datasource.yaml").read_text())["datasources"][0]
    assert source["type"] == DASHBOARD["templating"]["list"][0]["query"]
    provider = yaml.safe_load((FOLDER / "grafana-dashboards.yaml").read_text())["providers"][0]
    mounts = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]["grafana"]["volumes"]
    assert any(f":{provider['options']['path']}/citybrain.json:" in mount for mount in mounts)
