"""The embedded broker: a folder in, a running Apache Kafka with its address out, as a child process from Python alone.

One KRaft node on 127.0.0.1, on disk under the folder; what was stored is there at the next start. It is for one
machine: production has brokers of its own and names them.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from citybrain.errors import BrokerUnavailable, ConfigError
from infra.kafka.jars import cache_folder, jars_in, read_lock
from infra.kafka.java import find_java

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 4.0
FREE_BYTES_NEEDED = 256 * 2**20

# A small heap holds a city: RSS 166 MB at the start, 182 MB after 2.2 GB of traffic (measured).
JVM = (
    "-Xms48m",
    "-Xmx128m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)

# Without a smaller dedupe buffer the cleaner's 128 MB do not fit the heap and the broker ends without a word. A killed
# node cannot register again before its session has ended: 3 s instead of 9.
SERVER = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={log}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
min.insync.replicas=1
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
socket.request.max.bytes=33554432
log.segment.bytes=67108864
log.index.size.max.bytes=2097152
log.retention.check.interval.ms=60000
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
num.io.threads=4
num.network.threads=2
num.recovery.threads.per.data.dir=2
background.threads=2
"""

LOGGING = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1}: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""

PORTS_TRIED = 3
"""A port that was free may be taken before the child listens: another one is tried then."""
PORT_IN_USE = "its port is in use"
DAMAGED = "its log is damaged; remove the folder to begin anew"

# Said by the child in its log -> what to tell the user.
KNOWN_TROUBLE = (
    ("No space left on device", "no space is left for its log"),
    ("Failed to acquire lock on file", "another broker uses this folder"),
    ("Address already in use", PORT_IN_USE),
    ("OutOfMemoryError", "it ran out of memory"),
    ("meta.properties", DAMAGED),
    ("CorruptRecordException", DAMAGED),
    ("Error while reading checkpoint file", DAMAGED),
    ("Permission denied", "a file of it may not be written"),
)

# The child asks to be killed with its parent, then becomes Java. Linux only; elsewhere atexit has to do.
LAUNCH = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]): os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class _PortTaken(BrokerUnavailable):
    """Somebody else was faster."""


@dataclass(frozen=True, slots=True)
class _Address:
    address: str
    pid: int


class EmbeddedBroker:
    """Apache Kafka as a child process.

    Parameters
    ----------
    folder
        Where its log, settings and ``address.json`` live; kept over restarts.
    port
        Port of the broker; 0 takes the one of the last start, or a free one.
    jars_folder
        Where its jars are or are fetched to; by default in this user's cache.
    console
        Where the bar is drawn while the jars are fetched; None draws none.
    properties
        Broker properties besides, or instead of, its own: for tests of listeners and clusters.
    cluster_id, format_options
        Of a cluster that has it already, and what else its storage is formatted with.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        jars_folder: Path | None = None,
        console: Console | None = None,
        properties: Mapping[str, str] | None = None,
        cluster_id: str = "",
        format_options: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.address = ""
        self._port = port
        self._jars_folder = jars_folder or cache_folder({}) / "kafka"
        self._console = console
        self._properties = dict(properties or {})
        # An id that begins with a dash would be read as an option.
        self._cluster_id = cluster_id or f"C{urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip('=')[1:]}"
        self._format_options = format_options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Return whether the child runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Return the child's process id, 0 where there is none."""
        return self._process.pid if self._process else 0

    def start(self) -> str:
        """Start the broker and return its address, ``127.0.0.1:port``, once it listens.

        Raises
        ------
        ConfigError
            If a broker runs in this folder already, its port is in use, or there is no space.
        BrokerUnavailable
            If the jars cannot be had, or the child ends or does not listen within a minute.
        """
        self._refuse_bad_ground()
        jars = jars_in(self._jars_folder, console=self._console)
        java = find_java()
        classpath = os.pathsep.join(str(jars / jar.file_name) for jar in read_lock())
        for left in reversed(range(PORTS_TRIED)):
            try:
                self._begin(java, classpath, self._choose_port())
                break
            except _PortTaken:
                if not left:
                    raise
        _write_atomically(
            self.folder / "address.json", json.dumps({"address": self.address, "pid": self.pid}, indent=1)
        )
        return self.address

    def _begin(self, java: str, classpath: str, port: int) -> None:
        settings = self._write_settings(port)
        if not (self.folder / "log" / "meta.properties").exists():
            self._format(java, classpath, settings)
        self._launch(java, classpath, settings)
        self.address = f"{HOST}:{port}"
        atexit.register(self.stop)
        try:
            self._wait_until_listening(port)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the child and wait for its end; a second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.stop)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        (self.folder / "address.json").unlink(missing_ok=True)

    def trouble(self) -> str:
        """Return in one sentence why the child ended; empty while it runs."""
        if self.alive:
            return ""
        text = _tail(self.folder / "broker.log")
        for sign, meaning in KNOWN_TROUBLE:
            if sign in text:
                return f"the embedded Kafka ended: {meaning} ({self.folder})"
        said = re.findall(r"^(?:Caused by: )?[\w.$]+(?:Exception|Error): (.+)", text, re.MULTILINE)
        reason = f"{said[-1][:200]}; " if said else ""
        return f"the embedded Kafka ended: {reason}see {self.folder / 'broker.log'}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _refuse_bad_ground(self) -> None:
        if self.alive:
            raise ConfigError(f"{self.folder}: this broker runs already at {self.address}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.folder}: the broker's folder cannot be made ({error.strerror})") from error
        if (running := running_in(self.folder)) is not None:
            raise ConfigError(
                f"{self.folder}: a broker runs here already, at {running.address} (process {running.pid})"
            )
        free = shutil.disk_usage(self.folder).free
        if free < FREE_BYTES_NEEDED:
            raise ConfigError(
                f"{self.folder}: {free // 2**20} MB of space seen, at least {FREE_BYTES_NEEDED // 2**20} MB needed"
            )

    def _choose_port(self) -> int:
        if self._port:
            if not _is_free(self._port):
                raise ConfigError(f"port {self._port} of the embedded Kafka is in use: name another one")
            return self._port
        last = _last_port(self.folder / "server.properties")
        return last if last and _is_free(last) else _free_port()

    def _write_settings(self, port: int) -> Path:
        # A path in a properties file: backslashes would be escapes.
        log = (self.folder / "log").resolve().as_posix()
        path = self.folder / "server.properties"
        text = SERVER.format(host=HOST, port=port, controller_port=_free_port(), log=log)
        own = dict(line.split("=", 1) for line in text.splitlines())
        text = "".join(f"{name}={value}\n" for name, value in (own | self._properties).items())
        try:
            _write_atomically(path, text)
            _write_atomically(self.folder / "log4j2.properties", LOGGING)
        except OSError as error:
            raise ConfigError(f"{self.folder}: the broker's settings cannot be written ({error.strerror})") from error
        return path

    def _format(self, java: str, classpath: str, settings: Path) -> None:
        command = [java, *JVM, "-cp", classpath, "kafka.tools.StorageTool", "format"]
        command += ["-t", self._cluster_id, "-c", str(settings), *self._format_options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            raise BrokerUnavailable(f"{self.folder}: the embedded Kafka cannot make its log ({said[-1][:200]})")

    def _launch(self, java: str, classpath: str, settings: Path) -> None:
        logging = f"-Dlog4j2.configurationFile={(self.folder / 'log4j2.properties').resolve().as_posix()}"
        command = [java, *JVM, logging, "-cp", classpath, "kafka.Kafka", str(settings.resolve())]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", LAUNCH, str(os.getpid()), *command]
        log = self.folder / "broker.log"
        if log.exists():
            log.replace(self.folder / "broker.log.1")
        self._process = _spawn(command, log)

    def _wait_until_listening(self, port: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _is_listening(port):
            if not self.alive:
                trouble = self.trouble()
                raise (_PortTaken if PORT_IN_USE in trouble else BrokerUnavailable)(trouble)
            if time.monotonic() > deadline:
                raise BrokerUnavailable(
                    f"the embedded Kafka did not listen within {START_TIMEOUT_S:g} s: see {self.folder / 'broker.log'}"
                )
            time.sleep(0.05)


def running_in(folder: Path) -> _Address | None:
    """Return address and process of the broker that runs in ``folder``; None where the file is of a dead one."""
    try:
        said = json.loads((folder / "address.json").read_text("utf-8"))
        found = _Address(str(said["address"]), int(said["pid"]))
        port = int(found.address.rpartition(":")[2])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # A process id alone may by now be somebody else's.
    return found if _is_process(found.pid) and _is_listening(port) else None


def _spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    # The kernel's "die with your parent" means the thread that forked: a thread that lives as long as the child
    # starts it, so that `start` may be called from a short-lived one.
    begun = threading.Event()
    started: list[subprocess.Popen[bytes]] = []
    failed: list[OSError] = []

    def run() -> None:
        try:
            with log.open("wb") as out:
                # A session of its own: Ctrl-C in the terminal is for the program, which then stops its broker last.
                started.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        except OSError as error:
            failed.append(error)
        finally:
            begun.set()
        if started:
            started[0].wait()

    threading.Thread(target=run, name="embedded-kafka", daemon=True).start()
    begun.wait()
    if failed:
        raise BrokerUnavailable(f"the embedded Kafka cannot be started ({failed[0]})")
    return started[0]


def _is_process(pid: int) -> bool:
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _last_port(settings: Path) -> int:
    try:
        text = settings.read_text("utf-8")
        return int(text.partition("listeners=PLAINTEXT://")[2].partition(",")[0].rpartition(":")[2])
    except (OSError, ValueError):
        return 0


def _write_atomically(path: Path, text: str) -> None:
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(text, "utf-8")
    scratch.replace(path)


def _tail(path: Path, size: int = 65_536) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
