"""The commands' reference, printed from the commands themselves: ``python -m cli.reference > docs/commands.md``."""

from __future__ import annotations

import inspect

import click

from cli.main import COMMANDS, program


def reference() -> str:
    """Return ``docs/commands.md``."""
    parts = [
        "# Commands\n",
        "Printed from the program by `python -m cli.reference`; a test compares it.\n",
        "Exit codes: 0 done or stopped as told, 1 something is wrong that the command was asked to look for, 2 the",
        "command or its surroundings are wrong (one sentence says what), 130 interrupted.\n",
    ]
    context = click.Context(program, info_name="citybrain")
    for name in COMMANDS:
        command = program.get_command(context, name)
        assert command is not None
        parts += _section(command, f"citybrain {name}")
    return "\n".join(parts).rstrip() + "\n"


def _section(command: click.Command, path: str) -> list[str]:
    context = click.Context(command, info_name=path)
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    lines = [f"## {path}\n", *(_paragraph(text) for text in paragraphs)]
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    lines += ["```", usage, "```\n"]
    options = [option.get_help_record(context) for option in command.get_params(context)]
    rows = [record for record in options if record and "--help" not in record[0]]
    if rows:
        lines += ["| option | meaning |", "|---|---|", *(f"| `{name}` | {_cell(text)} |" for name, text in rows), ""]
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            inner = command.get_command(context, child)
            assert inner is not None
            lines += _section(inner, f"{path} {child}")
    return lines


def _paragraph(text: str) -> str:
    # A backspace tells click to leave the lines as they are: examples.
    return f"```\n{text[2:]}\n```\n" if text.startswith("\b\n") else f"{text}\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    click.echo(reference(), nl=False)
