"""Structured logs: one event name plus fields a line, on standard error or in a file (docs/operation.md)."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from typing import TextIO

import structlog

from cli.options import LogFormat


def configure_logs(*, verbose: bool = False, form: LogFormat = "auto", to: TextIO | None = None) -> None:
    """Send our events and the libraries' warnings to ``to`` (standard error by default), one line each."""
    stream = to or sys.stderr
    human = stream.isatty() if form == "auto" else form == "text"
    before: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    line = _line(human=human, colours=stream.isatty())
    structlog.configure(
        processors=[*before, *line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if verbose else logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=[*before, _as_library], processors=[_without_meta, *line])
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    # Clients say every reconnect at ERROR; the state is on the screen and in the metrics.
    for name in ("aiokafka", "kafka", "faust", "mode"):
        logging.getLogger(name).setLevel(logging.WARNING if verbose else logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(_no_task_left)
    threading.excepthook = _tell_of_thread


def _line(*, human: bool, colours: bool) -> list[structlog.types.Processor]:
    if human:
        return [structlog.dev.ConsoleRenderer(colors=colours)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _as_library(logger: object, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Tell what a library says as one event, ``library``, its words in ``message``."""
    record = event.get("_record")
    name = record.name if isinstance(record, logging.LogRecord) else "unknown"
    return {**event, "message": event.get("event", ""), "event": "library", "logger": name}


def _without_meta(logger: object, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(None, method, event)


def _tell_of_thread(ended: threading.ExceptHookArgs) -> None:
    """Say in one line that a thread ended by an error."""
    if ended.exc_type is asyncio.CancelledError:
        return  # aiokafka's reader that is told to end while its broker is away
    name = ended.thread.name if ended.thread else "unknown"
    structlog.get_logger().error("thread_ended", thread=name, error=repr(ended.exc_value))


def _no_task_left(record: logging.LogRecord) -> bool:
    # Tasks of Faust that did not end with a broker away (`cli.process.run_program`); nothing is lost with them.
    return "Task was destroyed" not in record.getMessage()
