"""Which way to go: current link times in, the next link for every zone and node out.

Shortest paths to zones on smoothed times, a fifth of the zones a minute. Each fifth sees the times through its own
fixed tastes, so that not everyone swings between two roads at once; vehicles under way follow what is new.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from simulators.engine import EXIT, Engine
from simulators.roads import FloatArray, IntArray, Roads

GROUPS = 5
EVERY_S = 60
"""One group of zones is renewed so often: each zone every five minutes."""
TASTE = 0.12
"""Standard deviation of the logarithm by which drivers' view of a link's time differs [judgement]."""
MEMORY = 0.8
"""Share of the past minute's delays that stays in the next: a memory of about five minutes."""
LONGEST_DELAY_S = 1800.0
CLOSED_S = 7200.0
"""Time of a closed link, so that only those take it who have no other way: they wait there."""
SHUT_MIN = 3
"""So long after a road was opened again it takes until those who stood on it are gone, minutes [judgement]."""
UNSEEN = 0.5
"""Weight of the delay without traffic beside the vehicles of the last minutes."""
_NOTICED_S, _NOTICED_SHARE = 3.0, 0.04
_AT_SINK_S = 0.01


class Routes:
    """The table of next links, and what it is made from.

    Attributes
    ----------
    next_link
        Link to take, by zone and node, shape (zones, nodes); `EXIT` at the zone's sinks.
    minutes
        Free-flow minutes from each node to each zone, shape (zones, nodes); infinite where there is no way.
    """

    def __init__(self, roads: Roads, sinks: IntArray, rng: np.random.Generator) -> None:
        self.roads = roads
        self.sinks = sinks
        self.zones = len(sinks)
        self._graph_of(roads)
        self._taste = np.exp(rng.normal(0.0, TASTE, (GROUPS, len(roads))))
        self._used = np.full((GROUPS, len(roads)), np.nan)
        self._by_from = np.argsort(roads.from_node, kind="stable")
        self._from, self._first = np.unique(roads.from_node[self._by_from], return_index=True)
        self._ways = np.diff(np.append(self._first, len(roads)))
        self.next_link = np.full((self.zones, roads.nodes), EXIT, np.int32)
        self._left = np.zeros(len(roads), np.int64)
        self._waited = np.zeros(len(roads))
        self._delay_s = np.zeros(len(roads))
        self._count = np.zeros(len(roads))
        self._shut = np.zeros(len(roads), np.int64)
        self.minutes = self._distance(roads.free_s, np.arange(self.zones)) / 60.0
        # What a lone vehicle waits at signals is known before anybody was seen there.
        self._idle_s = np.zeros(len(roads)) if roads.signals is None else roads.signals.wait_s
        for group in range(GROUPS):
            self._renew(group, roads.free_s + self._idle_s)

    def _graph_of(self, roads: Roads) -> None:
        """Lay out the reversed graph once; of parallel links the quickest counts, and each zone is a node more."""
        key = roads.to_node.astype(np.int64) * roads.nodes + roads.from_node
        self._order = np.argsort(key, kind="stable")
        pairs, self._first_of_pair = np.unique(key[self._order], return_index=True)
        rows, columns = np.divmod(pairs, roads.nodes)
        zone = np.repeat(np.arange(self.zones), self.sinks.shape[1])
        ways = np.unique(np.stack([roads.nodes + zone, self.sinks.reshape(-1)], axis=1), axis=0)
        self._columns = np.concatenate([columns, ways[:, 1]]).astype(np.int32)
        size = roads.nodes + self.zones
        counts = np.bincount(np.concatenate([rows, ways[:, 0]]), minlength=size)
        self._rows = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        self._to_sinks = np.full(len(ways), _AT_SINK_S)

    def _distance(self, times: FloatArray, zones: npt.NDArray[np.int64]) -> FloatArray:
        quickest = np.minimum.reduceat(times[self._order], self._first_of_pair)
        size = self.roads.nodes + self.zones
        graph = csr_matrix((np.concatenate([quickest, self._to_sinks]), self._columns, self._rows), shape=(size, size))
        return np.asarray(dijkstra(graph, indices=self.roads.nodes + zones)[:, : self.roads.nodes])

    def _renew(self, group: int, times: FloatArray) -> None:
        zones = np.arange(group, self.zones, GROUPS)
        if not len(zones):
            return
        self._used[group] = times
        seen = times * self._taste[group]
        distance = self._distance(seen, zones)
        cost = (seen + distance[:, self.roads.to_node])[:, self._by_from]
        best = np.minimum.reduceat(cost, self._first, axis=1)
        row, at = np.nonzero(cost == np.repeat(best, self._ways, axis=1))
        link = self._by_from[at]
        self.next_link[zones[row], self.roads.from_node[link]] = link
        self.next_link[zones[:, None], self.sinks[zones]] = EXIT

    def observe(self, engine: Engine) -> FloatArray:
        """Take in the past minute and return the present link times, s, shape (links,)."""
        links = engine.links
        left, waited = engine.left[:links], engine.delay_s[:links]
        self._count = MEMORY * self._count + (left - self._left)
        self._delay_s = MEMORY * self._delay_s + (waited - self._waited)
        self._left, self._waited = left.copy(), waited.copy()
        # Those who were locked in on a closed road tell nothing about it once it is open.
        shut = engine.capacity_share == 0.0
        self._shut = np.where(shut, SHUT_MIN, np.maximum(self._shut - 1, 0))
        self._count[self._shut > 0] = self._delay_s[self._shut > 0] = 0.0
        # Half a vehicle that met nobody, so that a queue long gone is forgotten.
        delay = (self._delay_s + UNSEEN * self._idle_s) / (self._count + UNSEEN)
        delay = np.maximum(delay, engine.head_delay_s())
        times = engine.free_s + np.minimum(delay, LONGEST_DELAY_S)
        times[shut] = CLOSED_S
        return np.asarray(times)

    def update(self, engine: Engine) -> bool:
        """Renew the group whose turn it is, unless its times are what they were; call every `EVERY_S`."""
        times = self.observe(engine)
        group = int(engine.now_s // EVERY_S) % GROUPS
        change = np.abs(times - self._used[group])
        if not (change > np.maximum(_NOTICED_S, _NOTICED_SHARE * self._used[group])).any():
            return False
        self._renew(group, times)
        engine.rerouted()
        return True

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything that changes, as arrays by name."""
        return {name: getattr(self, name) for name in _STATE}

    def load(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take up what `dump` returned for the same network and seed."""
        for name in _STATE:
            getattr(self, name)[...] = state[name]


_STATE = ("next_link", "_used", "_left", "_waited", "_delay_s", "_count", "_shut")
