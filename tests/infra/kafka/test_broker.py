from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from citybrain.errors import BrokerUnavailable, ConfigError
from citybrain.wire import Message, Output
from infra.kafka.admin import apply_topics
from infra.kafka.broker import EmbeddedBroker, running_in
from infra.kafka.client import Brokers
from infra.kafka.jars import Jar, jars_in, read_lock
from infra.kafka.producer import BatchProducer
from infra.kafka.tail import Tail
from tests.infra.kafka.test_tail import wait_until

AT_MS = 1_700_000_000_000
PARENT = """
import sys, time
from pathlib import Path
from infra.kafka.broker import EmbeddedBroker
broker = EmbeddedBroker(Path(sys.argv[1]), jars_folder=Path(sys.argv[2]))
print(broker.start(), broker.pid, flush=True)
time.sleep(60)
"""


def is_running(pid: int) -> bool:
    """Return whether a process runs; a dead one that nobody has waited for does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.broker
def test_what_was_written_outlives_kill_9_of_the_broker_and_clients_come_back(
    tmp_path: Path, jars_folder: Path
) -> None:
    seen: list[Message] = []
    broker = EmbeddedBroker(tmp_path / "b", jars_folder=jars_folder)
    brokers = Brokers(broker.start())
    apply_topics(brokers, 1)
    producer = BatchProducer(brokers, timeout_s=40)
    tail = Tail(brokers, ["readings"], seen.append)
    tail.start()
    assert tail.caught_up.wait(20)
    producer.send([Output("readings", 0, b"k", b"before")], AT_MS)
    producer.flush()
    assert wait_until(lambda: len(seen) == 1)

    os.kill(broker.pid, signal.SIGKILL)
    assert wait_until(lambda: not broker.alive, 5)
    assert wait_until(lambda: tail.state.kind == "lost", 5)
    assert running_in(tmp_path / "b") is None
    producer.send([Output("readings", 0, b"k", b"meanwhile")], AT_MS)
    broker.stop()
    assert broker.start() == str(brokers)
    producer.flush()
    assert wait_until(lambda: len(seen) == 2)
    assert [(message.offset, message.value) for message in seen] == [(0, b"before"), (1, b"meanwhile")]
    assert tail.state.kind == "ok"
    tail.stop()
    producer.close()
    broker.stop()
    assert not (tmp_path / "b" / "address.json").exists()


@pytest.mark.broker
def test_a_second_start_in_the_same_folder_is_refused_while_the_first_runs(tmp_path: Path, jars_folder: Path) -> None:
    with EmbeddedBroker(tmp_path, jars_folder=jars_folder) as first:
        said = json.loads((tmp_path / "address.json").read_text())
        assert said == {"address": first.address, "pid": first.pid}
        with pytest.raises(ConfigError, match=f"a broker runs here already, at {first.address}"):
            EmbeddedBroker(tmp_path, jars_folder=jars_folder).start()
        with pytest.raises(ConfigError, match="runs already"):
            first.start()
        assert first.alive
    assert first.pid == 0


@pytest.mark.broker
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end a child with its parent")
def test_the_broker_ends_with_its_parent_even_if_that_is_killed(tmp_path: Path, jars_folder: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), str(jars_folder)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline().split()[1])
    assert is_running(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_until(lambda: not is_running(pid), 10)


@pytest.mark.broker
def test_a_port_in_use_is_one_sentence(tmp_path: Path, jars_folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of the embedded Kafka is in use"):
            EmbeddedBroker(tmp_path, port=port, jars_folder=jars_folder).start()


@pytest.mark.broker
def test_a_damaged_log_is_one_sentence(tmp_path: Path, jars_folder: Path) -> None:
    with EmbeddedBroker(tmp_path, jars_folder=jars_folder):
        pass
    (tmp_path / "log" / "meta.properties").write_text("version=nonsense\n")
    with pytest.raises(BrokerUnavailable, match="its log is damaged"):
        EmbeddedBroker(tmp_path, jars_folder=jars_folder).start()


def test_the_file_of_a_dead_broker_is_not_believed(tmp_path: Path) -> None:
    for text in ('{"address": "127.0.0.1:9", "pid": 1}', "half a fi", "{}"):
        (tmp_path / "address.json").write_text(text)
        assert running_in(tmp_path) is None
        assert (tmp_path / "address.json").read_text() == text, "looking changes nothing"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="the broker's folder cannot be made"):
        EmbeddedBroker(tmp_path / "file" / "b").start()


def test_the_lock_names_each_jar_once_with_size_and_hash() -> None:
    jars = read_lock()
    assert len({jar.file_name for jar in jars}) == len(jars) == 45
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in jars)
    versions = {jar.coordinate.split(":")[2] for jar in jars if ":kafka" in jar.coordinate}
    assert versions == {"4.4.0"}, "clients and server of one version"


def test_a_jar_with_another_hash_is_never_used(tmp_path: Path) -> None:
    (tmp_path / "thing-1.jar").write_bytes(b"tampered")
    jar = Jar("no.such.group:thing:1", 8, "0" * 64)
    assert not jar.fits(tmp_path / "thing-1.jar")
    assert Jar("g:thing:1", 8, hashlib.sha256(b"tampered").hexdigest()).fits(tmp_path / "thing-1.jar")
    assert not jar.fits(tmp_path / "absent.jar")


def test_jars_that_cannot_be_written_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerUnavailable, match=r"1 of 1 files .* cannot be fetched into .* --brokers"):
        jars_in(tmp_path / "file" / "kafka", [Jar("g:a:1", 1, "0" * 64)])


def test_a_port_that_somebody_took_in_the_meantime_is_given_up_for_another(tmp_path: Path, jars_folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        taken = [other.getsockname()[1]]

        class Late(EmbeddedBroker):
            def _choose_port(self) -> int:
                return taken.pop() if taken else super()._choose_port()

        with Late(tmp_path / "broker", jars_folder=jars_folder) as broker:
            assert not taken
            assert broker.address != f"127.0.0.1:{other.getsockname()[1]}"
            assert broker.alive
