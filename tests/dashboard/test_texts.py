"""The catalogue: every text in both languages, every key that code names is there, and no code holds a text."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from string import Formatter

import pytest

import dashboard
from dashboard.texts import LANGUAGES, catalogue, preferred_language, text

FOLDER = Path(dashboard.__file__).parent
MODULES = sorted((FOLDER / "assets" / "modules").glob("*.js"))
DRAWING = [FOLDER / name for name in ("page.py", "charts.py", "outlook.py")] + sorted((FOLDER / "figures").glob("*.py"))
PREFIXED = re.compile(r"`([a-z]+(?:\.[a-z]+)*\.)\$\{")
KEY_LIKE = re.compile(r"""["'`]((?:[a-z]+\.)+[a-z_0-9]+)["'`]""")
NO_KEYS = re.compile(r"\.js$|^citybrain\.|^search\.|^card\.")


def places(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name}


def test_both_languages_have_the_same_keys_and_places() -> None:
    english, chinese = catalogue("en"), catalogue("zh")
    assert english.keys() == chinese.keys()
    assert {key: (english[key], chinese[key]) for key in english if places(english[key]) != places(chinese[key])} == {}


def test_chinese_texts_are_chinese() -> None:
    signs_only = re.compile(r"[\W\d_]*|TTI|EN|GB/T 33171|10–90 %|\{\w+\}")
    english, chinese = catalogue("en"), catalogue("zh")
    same = {key for key in english if english[key] == chinese[key] and not signs_only.fullmatch(english[key])}
    assert same == set()


def test_every_key_that_a_script_names_is_in_the_catalogue() -> None:
    keys = catalogue("en").keys()
    heads = {key.split(".")[0] for key in keys}
    missing = set()
    for module in MODULES:
        for key in KEY_LIKE.findall(module.read_text()):
            if key.split(".")[0] in heads and key not in keys and not NO_KEYS.search(key):
                missing.add((module.name, key))
    assert missing == set()


def test_every_family_of_keys_that_a_script_builds_is_in_the_catalogue() -> None:
    keys = catalogue("en")
    built = {prefix for module in MODULES for prefix in PREFIXED.findall(module.read_text())}
    assert built >= {"vital.", "level.", "reason.", "alert.severity.", "direction."}
    assert {prefix for prefix in built if not any(key.startswith(prefix) for key in keys)} == set()


def test_every_text_is_used_somewhere() -> None:
    code = "\n".join(path.read_text() for path in [*MODULES, *DRAWING])
    built = tuple(PREFIXED.findall(code))
    families = (*built, "speed.", "coming.none", "ranking.none")
    unused = [
        key
        for key in catalogue("en")
        if f'"{key}"' not in code and not key.startswith(families) and f'"{key.removesuffix(".one")}"' not in code
    ]
    assert unused == []


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_no_script_holds_a_sentence(module: Path) -> None:
    code = re.sub(r"/\*.*?\*/", "", re.sub(r"//.*", "", module.read_text()), flags=re.DOTALL)
    strings = re.findall(r'"([^"\n]*)"|`([^`]*)`', code)
    sentences = [
        said
        for pair in strings
        for said in pair
        if re.search(r"[A-Z][a-z]+ [a-z]+|[\u4e00-\u9fff]", re.sub(r"\$\{.*?\}", "", said))
    ]
    assert sentences == []


@pytest.mark.parametrize("module", DRAWING, ids=lambda path: path.name)
def test_no_python_code_that_draws_holds_a_sentence(module: Path) -> None:
    tree = ast.parse(module.read_text())
    documented = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    shown = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented
    ]
    assert [said for said in shown if re.search(r"^[A-Z][a-z]+ [a-z]+|[\u4e00-\u9fff]", said)] == []


@pytest.mark.parametrize(
    ("cookies", "accept", "expected"),
    [
        ({}, "", "en"),
        ({}, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ({}, "fr,en;q=0.5,zh;q=0.7", "zh"),
        ({}, "fr", "en"),
        ({"citybrain_language": "zh"}, "en", "zh"),
        ({"citybrain_language": "klingon"}, "zh", "zh"),
        ({}, "zh;q=nonsense, en;q=0.1", "zh"),
    ],
)
def test_the_language_to_start_with(cookies: dict[str, str], accept: str, expected: str) -> None:
    assert preferred_language(cookies, accept) == expected


def test_a_text_is_filled_in_both_languages_and_an_unknown_key_is_a_fault() -> None:
    assert [text("status.feeds", each, ok=2, all=3) for each in LANGUAGES] == ["feeds 2 of 3", "数据源 2/3"]
    with pytest.raises(KeyError):
        text("status.nothing", "en")
