"""The command ``citybrain``: words in, exit codes out. Each command is a module, imported only when it is called."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from typing import NoReturn, cast

import click

from citybrain import __version__
from citybrain.errors import CityBrainError, Stuck

STUCK = 3
"""Exit code of a process that its watchdog ended: start it again. 2 says that starting it again changes nothing."""
COMMANDS: dict[str, str] = {
    "up": "cli.up:up",
    "network": "cli.network:network",
    "ingest": "cli.ingest:ingest",
    "worker": "cli.worker:worker",
    "serve": "cli.serve:serve",
    "replay": "cli.replay:replay",
    "recompute": "cli.recompute:recompute",
    "archive": "cli.archive:archive",
    "scenario": "cli.scenario:scenario",
    "simulate": "cli.simulate:simulate",
    "calibrate": "cli.calibrate:calibrate",
    "evaluate": "cli.evaluate:evaluate",
    "load": "cli.load:load",
    "typical": "cli.typical:typical",
    "store": "cli.store:store",
    "topology": "cli.topology:topology",
    "topics": "cli.topics:topics",
    "state": "cli.state:state",
    "doctor": "cli.doctor:doctor",
    "screenshot": "cli.screenshot:screenshot",
}
"""Command to ``module:object``; in the order of the help."""


class Commands(click.Group):
    """Loads a command when it is asked for, so that ``--help`` and small commands start at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        return cast(click.Command, getattr(importlib.import_module(module), name))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="citybrain")
def program() -> None:
    """Run an open City Brain: sensor feeds to indices, warnings, alerts and an operator's screen.

    \b
    citybrain up cities/porto        the whole thing on this machine, with a simulated city
    citybrain doctor cities/porto    what is wrong with this installation, in plain words
    """  # noqa: D301


def main() -> None:
    """Run the command; a known error is one sentence a line and exit code 2, never a traceback."""
    end(_code())


def _code() -> int:
    try:
        program.main(prog_name="citybrain", standalone_mode=False)
    except CityBrainError as error:
        click.echo("\n".join(f"citybrain: {line}" for line in str(error).splitlines()), err=True)
        return STUCK if isinstance(error, Stuck) else 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        return 0
    return 0


def end(code: int) -> NoReturn:
    """End the process, even where a library's thread does not: all that matters is closed by now."""
    others = (thread for thread in threading.enumerate() if thread is not threading.current_thread())
    if any(not thread.daemon for thread in others):
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
