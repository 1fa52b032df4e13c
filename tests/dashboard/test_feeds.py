from __future__ import annotations

import pytest

from dashboard.live.feeds import Demo, Feeds
from tests.dashboard.conftest import MIN, TUESDAY_8H
from tests.dashboard.records import open_pane, readings
from tests.fakes import grid_network, segment_states

NETWORK = grid_network()
S = 1000
DEMO = Demo(simulated=True, speed=5.0, feed_clock=True)
PAST = TUESDAY_8H - 7 * 24 * 60 * MIN


def live_feed() -> Feeds:
    """Return a real feed that is 4 s behind, with the open pane it led to."""
    feeds = Feeds(Demo(), MIN)
    feeds.take_readings(readings(NETWORK, [0, 1], TUESDAY_8H, received_ms=TUESDAY_8H + 4 * S), TUESDAY_8H + 4 * S)
    feeds.take_states(open_pane(NETWORK, 0, TUESDAY_8H - MIN, 40.0), TUESDAY_8H + 5 * S)
    return feeds


def demo_feed() -> Feeds:
    feeds = Feeds(DEMO, MIN)
    feeds.take_readings(readings(NETWORK, [0, 1], PAST, received_ms=PAST + 5 * S), TUESDAY_8H)
    feeds.take_states(open_pane(NETWORK, 0, PAST - MIN, 40.0), TUESDAY_8H)
    return feeds


def test_the_age_of_data_counts_from_the_end_of_what_was_measured() -> None:
    feeds = live_feed()
    assert feeds.data_ms == TUESDAY_8H
    assert feeds.age_s(TUESDAY_8H + 12 * S) == 12.0


def test_an_open_pane_reaches_only_as_far_as_the_feeds_have_come() -> None:
    feeds = live_feed()
    feeds.take_states(open_pane(NETWORK, 0, TUESDAY_8H, 40.0), TUESDAY_8H + 6 * S)
    assert feeds.data_ms == TUESDAY_8H


def test_data_is_old_after_three_missed_intervals_and_fresh_again_with_the_next() -> None:
    feeds = live_feed()
    assert not feeds.stale(TUESDAY_8H + 95 * S)
    assert feeds.stale(TUESDAY_8H + 96 * S)
    feeds.take_states(segment_states(NETWORK, pane_start_ms=TUESDAY_8H), TUESDAY_8H + 100 * S)
    assert not feeds.stale(TUESDAY_8H + 101 * S)


def test_readings_alone_do_not_keep_the_map_fresh() -> None:
    feeds = live_feed()
    for at in range(30, 150, 30):
        feeds.take_readings(readings(NETWORK, [0], TUESDAY_8H + at * S), TUESDAY_8H + at * S)
    assert feeds.stale(TUESDAY_8H + 120 * S)
    assert [feed.state for feed in feeds.states(TUESDAY_8H + 120 * S)] == ["ok"]


def test_data_that_keeps_coming_a_quarter_of_an_hour_late_is_old() -> None:
    feeds = Feeds(Demo(), MIN)
    feeds.take_states(segment_states(NETWORK, pane_start_ms=TUESDAY_8H), TUESDAY_8H + 17 * MIN)
    assert feeds.stale(TUESDAY_8H + 17 * MIN)


def test_a_feed_that_sends_only_heartbeats_is_silent() -> None:
    feeds = live_feed()
    for at in range(5, 150, 5):
        beat = readings(NETWORK, [], TUESDAY_8H, received_ms=TUESDAY_8H + at * S)
        feeds.take_readings(beat, TUESDAY_8H + at * S)
    [feed] = feeds.states(TUESDAY_8H + 150 * S)
    assert (feed.name, feed.state) == ("loops", "silent")


def test_a_feed_that_sends_old_values_is_late() -> None:
    feeds = Feeds(Demo(), MIN)
    feeds.take_readings(readings(NETWORK, [0], TUESDAY_8H, received_ms=TUESDAY_8H + 4 * MIN), TUESDAY_8H + 4 * MIN)
    [feed] = feeds.states(TUESDAY_8H + 4 * MIN)
    assert (feed.state, feed.age_s) == ("late", 240.0)


def test_a_demo_shows_the_feeds_clock_between_what_it_sends() -> None:
    feeds = demo_feed()
    assert feeds.city_ms(TUESDAY_8H + 2 * S) == PAST + 5 * S + 10 * S


def test_a_demos_clock_stands_still_when_its_feed_is_gone() -> None:
    feeds = demo_feed()
    assert feeds.city_ms(TUESDAY_8H + 3600 * S) == PAST + 5 * S + 90 * S


def test_a_demos_age_is_real_time_and_its_patience_is_three_of_its_intervals() -> None:
    feeds = demo_feed()
    assert feeds.age_s(TUESDAY_8H + 3 * S) == pytest.approx(1 + 3)
    assert not feeds.stale(TUESDAY_8H + 18 * S)
    assert feeds.stale(TUESDAY_8H + 19 * S)


def test_a_demo_that_has_caught_up_with_the_present_runs_at_its_pace() -> None:
    feeds = Feeds(DEMO, MIN)
    feeds.take_readings(readings(NETWORK, [0], TUESDAY_8H, received_ms=TUESDAY_8H + S), TUESDAY_8H + S)
    feeds.take_states(open_pane(NETWORK, 0, TUESDAY_8H - MIN, 40.0), TUESDAY_8H + S)
    assert feeds.city_ms(TUESDAY_8H + 11 * S) == TUESDAY_8H + 11 * S
    assert not feeds.stale(TUESDAY_8H + 60 * S)


def test_nothing_is_fresh_before_anything_came() -> None:
    feeds = Feeds(Demo(), MIN)
    assert feeds.stale(TUESDAY_8H)
    assert feeds.age_s(TUESDAY_8H) is None


def test_what_the_store_held_is_as_old_as_it_is() -> None:
    feeds = Feeds(Demo(), MIN)
    feeds.restore(TUESDAY_8H - 50 * S, TUESDAY_8H)
    assert feeds.age_s(TUESDAY_8H) == 50.0
    assert not feeds.stale(TUESDAY_8H)
    assert feeds.stale(TUESDAY_8H + 3 * MIN)


def test_a_demos_age_is_not_known_after_a_restart_until_something_comes() -> None:
    feeds = Feeds(DEMO, MIN)
    feeds.restore(PAST, TUESDAY_8H)
    assert (feeds.age_s(TUESDAY_8H), feeds.stale(TUESDAY_8H), feeds.city_ms(TUESDAY_8H)) == (None, True, PAST)
    feeds.take_states(segment_states(NETWORK, pane_start_ms=PAST - 9 * MIN), TUESDAY_8H + S)
    assert not feeds.stale(TUESDAY_8H + S)
    assert feeds.data_ms == PAST - 8 * MIN
