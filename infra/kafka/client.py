"""What all clients of the broker share: its address in, whether it answers out; quiet client libraries."""

from __future__ import annotations

import logging
import socket
import time

from citybrain.errors import BrokerUnavailable, ConfigError

PROBE_S = 1.0


def endpoints(address: str) -> list[tuple[str, int]]:
    """Return host and port of each broker in ``host:port,host:port``.

    Raises
    ------
    ConfigError
        If it is no such list.

    Examples
    --------
    >>> endpoints("127.0.0.1:9092,kafka-2:9093")
    [('127.0.0.1', 9092), ('kafka-2', 9093)]
    """
    found = []
    for part in address.split(","):
        host, _, port = part.strip().rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"broker address {address!r} seen, host:port[,host:port...] allowed")
        found.append((host.strip("[]"), int(port)))
    return found


def answers(address: str) -> bool:
    """Return whether any broker of the address accepts a connection now."""
    for endpoint in endpoints(address):
        try:
            with socket.create_connection(endpoint, timeout=PROBE_S):
                return True
        except OSError:
            continue
    return False


def wait_for_broker(address: str, timeout_s: float = 10.0) -> None:
    """Wait until a broker accepts connections.

    Raises
    ------
    BrokerUnavailable
        If none does in time.
    """
    deadline = time.monotonic() + timeout_s
    while not answers(address):
        if time.monotonic() >= deadline:
            raise no_answer(address, timeout_s)
        time.sleep(0.1)


def no_answer(address: str, waited_s: float) -> BrokerUnavailable:
    """Return the error for a broker that does not answer."""
    return BrokerUnavailable(f"no Kafka broker answers at {address} (waited {waited_s:g} s)")


def silence_libraries() -> None:
    """Keep kafka-python from logging every refused connection: the adapters say it once, in one sentence."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
