"""Hand-over: roles that were given a consumer group of their own in, their groups' first offsets on the broker out.

A group that is new begins where the group stood that read for it before (``streams.pipeline.FORMER``), or at the first
message where nobody did. It is written down for every partition before an app of the program joins, and only once:
what the former group acknowledges later for its other stages says nothing of this role any more.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from citybrain.topics import TOPICS, group_address, topic_address
from infra.kafka.offsets import GroupHasMembers, Offsets, Place
from streams.pipeline import FORMER, PIPELINE, Role

log = structlog.get_logger()


def hand_over(offsets: Offsets, roles: Iterable[Role], city_partitions: int) -> None:
    """Let the groups of the live city's roles begin where they have to; those that stand somewhere are left alone.

    Parameters
    ----------
    offsets
        Who asks the brokers; the topics must exist.
    roles
        All that the program is about to run, none of them begun.
    city_partitions
        Partitions of the city.
    """
    for role in roles:
        if (former := FORMER.get(role)) is not None:
            _begin(offsets, group_address(role), group_address(former), _places(role, city_partitions))


def _begin(offsets: Offsets, group: str, former: str, places: set[Place]) -> None:
    # The former group is asked first. Another process may begin in between: then it has written its offsets before
    # its stages acknowledge anything, and what is written again here is no later.
    before = offsets.committed(former)
    missing = places - offsets.committed(group).keys()
    if not missing:
        return
    begins = offsets.begins(missing)
    try:
        offsets.commit(group, {place: max(begins[place], before.get(place, 0)) for place in missing})
    except GroupHasMembers as error:
        # It has members by now: another process was first, and they read from there.
        log.info("group_begun_elsewhere", group=group, reason=str(error))
        return
    if taken := missing & before.keys():
        log.warning("group_handed_over", group=group, former=former, partitions=len(taken))


def _places(role: Role, city_partitions: int) -> set[Place]:
    names = {source for step in PIPELINE if step.role == role for source in step.sources}
    return {(topic_address(name), p) for name in names for p in range(TOPICS[name].partitions(city_partitions))}
