"""``citybrain topology``: the pipeline in, its Mermaid diagram on standard output."""

from __future__ import annotations

import click


@click.command()
@click.option("--table", "as_table", is_flag=True, help="The stages as a Markdown table instead.")
def topology(as_table: bool) -> None:
    """Print the diagram of topics and stages (Mermaid), made from the code.

    \b
    citybrain topology > flow.mmd
    """  # noqa: D301
    from streams.topology import mermaid, table

    click.echo(table() if as_table else mermaid())
