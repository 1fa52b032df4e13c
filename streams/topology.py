"""Topology: the pipeline in, a Mermaid diagram and a table of stages out."""

from __future__ import annotations

from collections.abc import Sequence

from citybrain.topics import TOPICS, TopicName
from streams.pipeline import PIPELINE, Step, program_of

FEEDS: tuple[tuple[str, TopicName], ...] = (
    ("feeds, simulators, archives", "readings"),
    ("JSON edge", "readings-json"),
    ("cameras", "passages"),
    ("operators, citizens", "events"),
)
BATCHER: tuple[TopicName, TopicName] = ("readings-json", "readings")
"""The batcher is no stage: one message is one reading there, and it runs in ``citybrain ingest``."""


def mermaid(pipeline: Sequence[Step] = PIPELINE) -> str:
    """Return the diagram: topics are rounded, stages are boxes, what lies outside is drawn as a cylinder."""
    lines = ["flowchart LR"]
    used = {topic for step in pipeline for topic in (*step.sources, *step.sinks)} | {BATCHER[0]}
    lines += [f"    {_id(name)}([{name}])" for name in TOPICS if name in used]
    for text, topic in FEEDS:
        lines.append(f"    in_{_id(topic)}>{text}] --> {_id(topic)}")
    lines.append(f"    {_id(BATCHER[0])} --> batcher[batcher] --> {_id(BATCHER[1])}")
    for step in pipeline:
        node = f"s_{step.name}"
        lines.append(f"    {node}[{step.name}]")
        lines += [f"    {_id(source)} --> {node}" for source in step.sources]
        lines += [f"    {node} --> {_id(sink)}" for sink in step.sinks]
        if step.effect:
            lines.append(f"    {node} --> e_{step.name}[({step.effect})]")
    return "\n".join(lines)


def table(pipeline: Sequence[Step] = PIPELINE) -> str:
    """Return the stages as a table in Markdown."""
    lines = ["| stage | reads | writes | process | group | keeps state |", "|---|---|---|---|---|---|"]
    for step in pipeline:
        reads, writes = (", ".join(f"`{name}`" for name in names) for names in (step.sources, step.sinks))
        written = ", ".join(part for part in (writes, step.effect) if part)
        state = "yes" if f"snapshots-{step.name}" in TOPICS else "no"
        lines.append(f"| `{step.name}` | {reads} | {written} | {program_of(step.role)} | {step.role} | {state} |")
    return "\n".join(lines)


def _id(topic: str) -> str:
    return "t_" + topic.replace("-", "_")
