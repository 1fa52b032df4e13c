"""A broker that demands TLS or a password: every client of ours works, and what does not agree is one sentence."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from citybrain.errors import BrokerUnavailable, ConfigError
from citybrain.metrics import Metrics
from citybrain.settings import KafkaSettings
from citybrain.wire import Message, Output
from infra.kafka.admin import apply_topics
from infra.kafka.client import Brokers
from infra.kafka.differences import differences
from infra.kafka.producer import BatchProducer, JsonProducer
from infra.kafka.tail import Tail
from ingest.batcher import Batcher
from streams.aggregate import Aggregate
from streams.harness import make_app, running
from streams.replay import lag
from streams.rollup import Rollup
from streams.stage import Stage
from tests.cli.running import citybrain
from tests.fakes import city_settings, grid_network
from tests.infra.kafka.secured import Secured
from tests.streams.test_kill import batches, newest, read, reference, same
from tests.streams.worker import network

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("cluster")]

DOORS = ("certificate", "SCRAM-SHA-512", "PLAIN")
BATCHES = 60


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, jars_folder: Path) -> Iterator[Secured]:
    """Return the broker, running."""
    made = Secured(tmp_path_factory.mktemp("secured"), jars_folder)
    with made.broker:
        yield made


def through(secured: Secured, door: str) -> Brokers:
    return secured.by_certificate() if door == "certificate" else secured.by_password(mechanism=door)


@pytest.mark.parametrize("door", DOORS)
def test_stages_work_are_stopped_and_restored_through_it(secured: Secured, tmp_path: Path, door: str) -> None:
    brokers, run = through(secured, door), f"w{DOORS.index(door)}"
    apply_topics(brokers, 2, run=run)
    settings, producer = city_settings(tmp_path), BatchProducer(brokers, run)
    sent = list(batches())[:BATCHES]
    metrics = Metrics()

    async def work(outputs: list[Output]) -> None:
        for output in outputs:
            producer.send([output], output.record_ms or 0)
        producer.flush()
        stages: list[Stage[Any]] = [Aggregate.of(network(), settings), Rollup.of(network(), settings)]
        app = make_app(stages, brokers, run=run, role="worker", settings=settings, metrics=metrics)
        async with running(app), asyncio.timeout(40):
            while await lag(brokers, run, "worker", [("readings", 2), ("area-partials", 1)]):
                await asyncio.sleep(0.2)

    asyncio.run(work(sent[: BATCHES // 2]))
    asyncio.run(work(sent[BATCHES // 2 :]))
    producer.close()
    log = asyncio.run(read(brokers, run))
    assert [m.value for m in log["readings"] if m.partition == 0] == [o.value for o in sent if o.partition == 0]
    expected, seen = reference(log["readings"]), newest(log["segment-states"])
    assert seen.keys() == expected.states.keys() != set()
    for place, states in seen.items():
        same(states, expected.states[place])


@pytest.mark.parametrize("door", DOORS)
def test_single_readings_go_through_the_batcher_to_a_tail(secured: Secured, door: str) -> None:
    brokers, run = through(secured, door), f"b{DOORS.index(door)}"
    apply_topics(brokers, 2, run=run)
    heard: list[Message] = []
    tail = Tail(brokers, ["readings", "dead-letters"], heard.append, run=run, last=1_000)
    tail.start()
    single = JsonProducer(brokers, run)
    single.send("readings-json", [(b"nobody", b'{"detector":"nobody"}', 1_000)])
    single.flush()
    single.close()
    batcher = Batcher(brokers, grid_network(3, 2), BatchProducer(brokers, run), run=run)
    batcher.start()
    wait_until(lambda: bool(heard))
    batcher.stop()
    tail.stop()
    assert {m.topic for m in heard} == {"dead-letters"}
    assert tail.state.kind == "ok"


def wrong(secured: Secured) -> dict[str, tuple[Brokers, str]]:
    """Return settings that do not agree with the broker, and what is said of each."""
    password = r"kafka\.username 'citybrain' or the password in kafka\.password_file is wrong"
    authority = r"its certificate is of no authority in kafka\.ca_file \(.*other-ca\.pem\)"
    bare = KafkaSettings(security="ssl", ca_file=str(secured.folder / "ca.pem"))
    by_password = secured.by_password()
    return {
        "password": (secured.by_password(password_file="wrong-password"), password),
        "plain password": (secured.by_password(password_file="wrong-password", mechanism="PLAIN"), password),
        "authority": (secured.by_password(ca_file="other-ca.pem"), authority),
        "no certificate": (
            replace(secured.by_certificate(), settings=bare),
            r"asks for a certificate of the client \(kafka\.certificate_file\)",
        ),
        "mechanism": (
            secured.by_password(mechanism="SCRAM-SHA-256"),
            r"kafka\.mechanism SCRAM-SHA-256 seen, SCRAM-SHA-512,PLAIN allowed",
        ),
        "TLS to one in the clear": (
            replace(by_password, address=secured.in_the_clear),
            r"kafka\.security 'sasl_ssl' seen, but it does not speak TLS",
        ),
    }


@pytest.mark.parametrize(
    "what", ["password", "plain password", "authority", "no certificate", "mechanism", "TLS to one in the clear"]
)
def test_what_does_not_agree_is_one_sentence_at_the_start_and_a_state_later(secured: Secured, what: str) -> None:
    brokers, said = wrong(secured)[what]
    for ask in (apply_topics, differences):
        with pytest.raises(ConfigError, match=said):
            ask(brokers, 1)
    producer = BatchProducer(brokers, timeout_s=1.0)
    producer.send([Output("readings", 0, b"k", b"v")], 1_000)
    with pytest.raises(BrokerUnavailable, match=said):
        producer.flush()
    tail = Tail(brokers, ["readings"], lambda message: None)
    tail.start()
    wait_until(lambda: said_in(tail.state.error, said))
    assert tail.state.kind == "lost"
    tail.stop()


def test_speaking_in_the_clear_to_one_that_does_not_is_one_sentence(secured: Secured) -> None:
    clear = Brokers(secured.by_certificate().address)
    with pytest.raises(
        BrokerUnavailable, match=r"ends every connection: does it speak 'plaintext', as kafka\.security"
    ):
        apply_topics(clear, 1, timeout_s=1)


def test_the_command_says_it_with_exit_code_2(secured: Secured, tmp_path: Path) -> None:
    grid_network(2, 2).save(tmp_path / "network.arrow")
    settings = secured.by_password(password_file="wrong-password")
    (tmp_path / "city.toml").write_text(
        'name = "Testville"\ntimezone = "UTC"\n[kafka]\n'
        f'brokers = "{settings}"\nsecurity = "sasl_ssl"\nusername = "citybrain"\n'
        f'password_file = "{settings.settings.password_file}"\nca_file = "{settings.settings.ca_file}"\n'
    )
    for command in (("topics", "diff"), ("worker",)):
        done = citybrain(*command, str(tmp_path))
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "the password in kafka.password_file is wrong" in done.stderr


def said_in(error: str, said: str) -> bool:
    return re.search(said, error) is not None


def wait_until(condition: object, timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline_s, f"not so after {timeout_s} s"
        time.sleep(0.05)
