from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from citybrain.messages import DeadLetter, Signal
from dashboard.live import Demo, Live, frames
from dashboard.live.frames import Layer
from dashboard.live.push import ALERTS_MS, TICK_MS
from dashboard.live.replays import Replays
from infra.stores.protocol import Batch
from tests.dashboard.conftest import MIN, TUESDAY_8H, World
from tests.dashboard.records import alert_event, message, open_pane, readings, signals
from tests.fakes import area_indices, forecasts, grid_network, segment_states


def stepped(world: World, live: Live, *, after_ms: int = TICK_MS) -> dict[str, Any]:
    """Return the text messages of the next tick by kind."""
    world.clock.at_ms += after_ms
    viewer = live.hub.join("hello")
    viewer.ticks.get_nowait()
    asyncio.run(live.step())
    texts = []
    while not viewer.ticks.empty():
        texts += [json.loads(frame) for frame in viewer.ticks.get_nowait() if isinstance(frame, str)]
    live.hub.leave(viewer)
    return {text["kind"]: text for text in texts}


def fed(world: World, live: Live, speed_kmh: float = 20.0, at_ms: int = TUESDAY_8H) -> None:
    world.clock.at_ms = at_ms + 5_000
    live.apply(message("readings", readings(world.network, [0, 1], at_ms)))
    for partition in (0, 1):
        states = segment_states(
            world.network, partition=partition, pane_start_ms=at_ms - MIN, speed_kmh=speed_kmh, version=at_ms
        )
        live.apply(message("segment-states", states))
    live.apply(message("area-indices", area_indices(world.network, pane_start_ms=at_ms - MIN)))


def test_the_first_tick_says_everything(world: World) -> None:
    live = world.live()
    fed(world, live)
    texts = stepped(world, live)
    assert set(texts) == {"status", "vitals", "levels", "ranking", "coming", "alerts"}
    assert texts["levels"]["km"] == [0, 0, 0, 0, 17.0, 0]
    assert texts["ranking"]["rows"][0]["level"] == 4
    assert texts["vitals"]["time_ms"] == TUESDAY_8H
    assert texts["status"]["data_time_ms"] == TUESDAY_8H
    assert not texts["status"]["stale"]
    assert (live.hub.shown[Layer.LEVEL] == 4).all()


def test_congested_kilometres_of_vital_signs_are_those_of_the_legend(world: World) -> None:
    live = world.live()
    fed(world, live)
    items = {item["key"]: item for item in stepped(world, live)["vitals"]["items"]}
    assert items["congested_km"]["value"] == 17.0


def test_a_quiet_second_sends_at_most_the_status(world: World) -> None:
    live = world.live()
    fed(world, live)
    stepped(world, live)
    assert set(stepped(world, live)) <= {"status"}
    assert set(stepped(world, live)) == {"status"}


def test_an_open_pane_colours_the_map_before_it_closes(world: World) -> None:
    live = world.live()
    fed(world, live, speed_kmh=45.0)
    stepped(world, live)
    live.apply(message("live-states", open_pane(world.network, 0, TUESDAY_8H, 10.0)))
    texts = stepped(world, live, after_ms=1)
    own = world.network.segments_of(0)
    assert set(live.hub.shown[Layer.LEVEL][own]) == {5}
    assert "levels" in texts
    assert "ranking" not in texts


def test_nothing_is_sent_between_ticks_when_nothing_came(world: World) -> None:
    live = world.live()
    fed(world, live)
    stepped(world, live)
    assert stepped(world, live, after_ms=TICK_MS - 1) == {}


def test_a_restart_shows_the_map_at_once_with_its_past(world: World) -> None:
    panes = range(-30, 0)
    world.store.write(
        Batch(
            states=[
                segment_states(
                    world.network, partition=p, pane_start_ms=TUESDAY_8H + k * MIN, speed_kmh=45.0 if k < -10 else 20.0
                )
                for k in panes
                for p in (0, 1)
            ],
            areas=[area_indices(world.network, pane_start_ms=TUESDAY_8H + k * MIN) for k in panes],
            forecasts=[forecasts(world.network, partition=p, pane_start_ms=TUESDAY_8H - MIN) for p in (0, 1)],
        )
    )
    live = world.live()
    live.restore()
    texts = stepped(world, live)
    assert (live.hub.shown[Layer.LEVEL] == 4).all()
    assert (live.hub.shown[Layer.LEVEL_60] == 1).all()
    assert len(next(item for item in texts["vitals"]["items"] if item["key"] == "tpi")["spark"]) == 30
    assert {row["since_ms"] for row in texts["ranking"]["rows"]} == {TUESDAY_8H - 10 * MIN}
    assert not texts["status"]["stale"]


def test_a_restart_with_an_empty_store_says_that_there_is_nothing(world: World) -> None:
    live = world.live()
    live.restore()
    status = stepped(world, live)["status"]
    assert (status["stale"], status["data_time_ms"], status["since_ms"]) == (True, None, None)


def test_the_status_says_when_data_is_old_and_since_when_and_comes_back(world: World) -> None:
    live = world.live()
    fed(world, live)
    stepped(world, live)
    status = stepped(world, live, after_ms=4 * MIN)["status"]
    assert (status["stale"], status["since_ms"], status["feeds"][0]["state"]) == (True, TUESDAY_8H, "silent")
    fed(world, live, at_ms=TUESDAY_8H + 5 * MIN)
    assert not stepped(world, live)["status"]["stale"]


def test_a_lost_broker_is_told_at_once(world: World) -> None:
    live = world.live()
    fed(world, live)
    stepped(world, live)
    world.broker = "lost"
    assert stepped(world, live)["status"]["broker"] == "lost"


def test_an_alert_is_shown_even_if_the_desk_takes_it_after_the_log_told(world: World) -> None:
    live = world.live()
    fed(world, live)
    stepped(world, live)
    live.apply(message("alerts", alert_event(world.network)))
    assert "alerts" not in stepped(world, live, after_ms=1)
    world.desk.apply([alert_event(world.network)])
    texts = stepped(world, live)
    assert [row["alert_id"] for row in texts["alerts"]["alerts"]] == ["a1"]
    assert next(item for item in texts["vitals"]["items"] if item["key"] == "alerts")["value"] == 1


@pytest.mark.parametrize("announced", [True, False])
def test_an_alert_is_shown_within_its_time_though_there_is_news_all_the_time(world: World, announced: bool) -> None:
    live = world.live()
    fed(world, live)
    stepped(world, live)
    if announced:
        live.apply(message("alerts", alert_event(world.network)))
        stepped(world, live, after_ms=1)
    world.desk.apply([alert_event(world.network)])
    began_ms = world.clock.at_ms
    shown: dict[str, Any] = {}
    for nth in range(50):
        live.apply(message("live-states", open_pane(world.network, nth % 2, TUESDAY_8H, 10.0 + nth)))
        shown = stepped(world, live, after_ms=250).get("alerts", shown)
        if shown:
            break
    assert [row["alert_id"] for row in shown["alerts"]] == ["a1"]
    assert world.clock.at_ms - began_ms <= (TICK_MS if announced else ALERTS_MS) + 250


def test_what_is_coming_is_that_of_partitions_that_still_speak(world: World) -> None:
    live = world.live()
    soon = Signal(segment=0, kind="congestion_expected", probability=0.8, horizon_min=15)
    live.apply(message("signals", signals(world.network, TUESDAY_8H, soon)))
    assert [row["segment"] for row in stepped(world, live)["coming"]["rows"]] == [0]
    live.apply(message("signals", signals(world.network, TUESDAY_8H + 6 * MIN, partition=1)))
    assert stepped(world, live)["coming"]["rows"] == []


def test_reported_events_are_no_partition_of_their_own(world: World) -> None:
    live = world.live()
    soon = Signal(segment=0, kind="congestion_expected", probability=0.8)
    live.apply(message("signals", signals(world.network, TUESDAY_8H, soon, partition=-1)))
    assert live.city.coming() == ()


def test_what_cannot_be_read_or_is_of_another_network_changes_nothing(world: World) -> None:
    live = world.live()
    live.apply(message("segment-states", b"not arrow"))
    live.apply(message("segment-states", segment_states(grid_network(5, 5), pane_start_ms=TUESDAY_8H)))
    assert stepped(world, live)["status"]["data_time_ms"] is None


def test_dead_letters_are_counted_by_reason_and_the_newest_fifty_kept(world: World) -> None:
    live = world.live()
    for k in range(60):
        letter = DeadLetter(
            reason="late", detail="", stage="aggregate", topic="readings", partition=0, offset=k, source="loops",
            record_ms=0, count=2, excerpt="",
        )  # fmt: skip
        live.apply(message("dead-letters", letter))
    letters = live.city.letters()
    assert (letters.counts["late"], letters.counts["malformed"]) == (120, 0)
    assert [letter.offset for letter in letters.newest] == list(range(59, 9, -1))


def test_a_demo_tells_its_clock_and_speed(world: World) -> None:
    live = world.live(Demo(simulated=True, speed=5.0, label="Simulated", feed_clock=True))
    past = TUESDAY_8H - 10_000 * MIN
    live.apply(message("readings", readings(world.network, [0], past, received_ms=past + 1000)))
    hello = json.loads(live.hello())
    assert hello["demo"] == {"simulated": True, "speed": 5.0, "label": "Simulated"}
    assert (hello["network"], hello["tick_ms"], hello["languages"]) == (world.network.version, 1000, ["en", "zh"])
    world.clock.at_ms += 2000
    assert live.status().simulated_now_ms == past + 1000 + 10_000


def test_messages_may_come_from_another_thread_while_ticks_are_made(world: World) -> None:
    live = world.live()
    done = threading.Event()

    def feed() -> None:
        for k in range(150):
            for partition in (0, 1):
                states = segment_states(
                    world.network, partition=partition, pane_start_ms=TUESDAY_8H + k * MIN, speed_kmh=10.0 + k % 40
                )
                live.apply(message("segment-states", states))
        done.set()

    page = np.zeros(len(world.network.segments), dtype=np.uint8)
    viewer = live.hub.join("hello")
    thread = threading.Thread(target=feed)
    thread.start()
    while True:
        ended = done.is_set()
        live.tick()
        while not viewer.ticks.empty():
            for data in viewer.ticks.get_nowait():
                if isinstance(data, bytes) and (frame := frames.decode(data)).layer == Layer.SPEED:
                    page[frame.index] = frame.values
        if ended:
            break
    thread.join()
    assert set(page.tolist()) == {10 + 149 % 40}


def run_in_store(world: World, panes: int) -> None:
    for k in range(panes):
        states = [
            segment_states(world.network, partition=p, pane_start_ms=TUESDAY_8H + k * MIN, speed_kmh=10.0 + k)
            for p in (0, 1)
        ]
        areas = [area_indices(world.network, pane_start_ms=TUESDAY_8H + k * MIN)]
        world.store.write(Batch(states=states, areas=areas), run="r1")


async def shown_speed(live: Live, world: World, expected: int) -> bool:
    """Return whether a view comes to show a speed, within 10 s."""
    for _ in range(200):
        world.clock.at_ms += TICK_MS
        await asyncio.sleep(0.05)
        if live.hub.shown[Layer.SPEED][0] == expected:
            return True
    return False


def test_a_replay_run_is_shown_from_the_store_and_followed_and_never_mixed_with_the_live_city(world: World) -> None:
    async def look() -> None:
        replays = Replays(world.store, lambda run, demo: world.live(demo, run))
        live = await replays.view("r1")
        assert live is not None
        assert await replays.view("r1") is live
        assert await replays.view("r2") is None
        assert await shown_speed(live, world, 12)
        run_in_store(world, 6)
        assert await shown_speed(live, world, 15)
        await replays.close()

    run_in_store(world, 3)
    asyncio.run(look())
    assert world.store.latest_states() == []


@pytest.mark.parametrize("status", ["closed", "final"])
def test_final_panes_are_shown_like_closed_ones(world: World, status: str) -> None:
    live = world.live()
    pane = segment_states(world.network, pane_start_ms=TUESDAY_8H)
    live.apply(message("segment-states", replace(pane, status=status)))  # type: ignore[arg-type]
    assert live.city.closed()[0] == TUESDAY_8H + MIN


def test_a_restore_that_comes_after_the_first_messages_takes_nothing_back(world: World) -> None:
    old = segment_states(world.network, pane_start_ms=TUESDAY_8H - 60 * MIN, speed_kmh=45.0, version=99)
    world.store.write(Batch(states=[old], areas=[area_indices(world.network, pane_start_ms=TUESDAY_8H - 60 * MIN)]))
    live = world.live()
    fed(world, live)
    live.restore()
    assert (live.city.now().level == 4).all()
    assert live.city.now().data_ms == TUESDAY_8H
    newest = live.city.areas()
    assert newest is not None
    assert newest.pane_start_ms == TUESDAY_8H - MIN
