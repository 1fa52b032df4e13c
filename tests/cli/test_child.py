"""A watched child: it ends when it is told to, and what it said last is in its state."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path

from cli.child import Child, set_when_closed


def child(folder: Path, code: str) -> Child:
    made = Child("feed", [], folder / "logs" / "feed.log")
    made._command = [sys.executable, "-c", code]
    return made


def test_a_child_ends_when_its_standard_input_is_closed(tmp_path: Path) -> None:
    waiting = child(tmp_path, "import sys; sys.stdin.read(); print('told')")
    waiting.start()
    assert waiting.state == "ok"
    waiting.stop()
    assert (tmp_path / "logs" / "feed.log").read_text() == "told\n"


def test_the_state_of_a_child_that_ended_is_its_last_words(tmp_path: Path) -> None:
    failing = child(tmp_path, "import sys; sys.exit('citybrain: no such feed')")
    failing.start()
    assert failing._process is not None
    failing._process.wait(20)
    assert failing.state == "feed ended and is started again: citybrain: no such feed"
    failing.stop()


def test_the_end_of_standard_input_is_heard() -> None:
    stop = threading.Event()
    set_when_closed(io.BytesIO(b"anything"), stop)
    assert stop.wait(10)
