"""As much of kustomize as our overlays use: resources, components, merge and JSON patches, images, ConfigMaps."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.reading import documents

KEYS = {
    "apiVersion", "kind", "namespace", "labels", "resources", "components", "configMapGenerator", "images", "patches",
}  # fmt: skip
Document = dict[str, Any]


def built(folder: Path) -> list[Document]:
    """Return the documents that a kustomization makes; raises where a name leads nowhere."""
    plan: Document = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(plan) <= KEYS, f"{folder.name}: {sorted(set(plan) - KEYS)} is not known here"
    made = [each for name in plan.get("resources", []) for each in _resource(folder / name)]
    made += [_config_map(folder, each) for each in plan.get("configMapGenerator", [])]
    for name in plan.get("components", []):
        component: Document = yaml.safe_load((folder / name / "kustomization.yaml").read_text())
        made += [each for name_ in component.get("resources", []) for each in documents(folder / name / name_)]
        _patch_all(folder / name, component, made)
    _patch_all(folder, plan, made)
    for image in plan.get("images", []):
        _set_image(made, image)
    return made


def find(made: list[Document], kind: str, name: str) -> Document:
    """Return the one document of that kind and name."""
    (found,) = [each for each in made if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def _resource(path: Path) -> list[Document]:
    return built(path) if path.is_dir() else documents(path)


def _config_map(folder: Path, generator: Document) -> Document:
    data = {name: (folder / name).read_text() for name in generator["files"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data}


def _patch_all(folder: Path, plan: Document, made: list[Document]) -> None:
    for patch in plan.get("patches", []):
        if "path" in patch:
            for change in documents(folder / patch["path"]):
                target = find(made, change["kind"], change["metadata"]["name"])
                made[made.index(target)] = _merged(target, change)
        else:
            target = find(made, patch["target"]["kind"], patch["target"]["name"])
            for step in yaml.safe_load(patch["patch"]):
                assert step["op"] == "remove"
                *way, last = step["path"].strip("/").split("/")
                place = target
                for key in way:
                    place = place[key]
                del place[last]


def _merged(old: Any, new: Any) -> Any:
    """Merge as `kubectl apply` does: maps by key, lists of named things by their name, other lists replaced."""
    if isinstance(old, dict) and isinstance(new, dict):
        whole = copy.deepcopy(old)
        for key, value in new.items():
            whole[key] = _merged(whole[key], value) if key in whole else value
        return whole
    if isinstance(old, list) and isinstance(new, list) and all(isinstance(e, dict) and "name" in e for e in old + new):
        changes = {each["name"]: each for each in new}
        assert set(changes) <= {each["name"] for each in old}, f"a patch names {sorted(changes)}"
        return [_merged(each, changes[each["name"]]) if each["name"] in changes else each for each in old]
    return new


def _set_image(made: list[Document], image: Document) -> None:
    used = 0
    for each in made:
        for container in containers(each):
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
                used += 1
    assert used, f"image {image['name']} is used nowhere"


def containers(document: Document) -> list[Document]:
    """Return the containers of what makes pods."""
    pod = document.get("spec", {}).get("template", {}).get("spec", {})
    return [*pod.get("initContainers", []), *pod.get("containers", [])]
