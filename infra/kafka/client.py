"""Brokers: an address and how to speak to them in, settings for each client library and whether they answer out."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from citybrain.errors import BrokerUnavailable, ConfigError
from citybrain.settings import KafkaSettings

PROBE_S = 1.0


@dataclass(frozen=True, slots=True)
class Brokers:
    """Brokers and how they are spoken to; as text, their address.

    Attributes
    ----------
    address
        ``host:port[,host:port...]``.
    settings
        Security and copies; the plain ones are those of the embedded broker.

    Raises
    ------
    ConfigError
        If the address is no such list; from the methods, if a file that the settings name cannot be read.
    """

    address: str
    settings: KafkaSettings = field(default_factory=KafkaSettings)

    def __post_init__(self) -> None:
        endpoints(self.address)

    def __str__(self) -> str:
        return self.address

    def librdkafka(self) -> dict[str, Any]:
        """Return the settings of a client of confluent-kafka."""
        said, found = self.settings, {"bootstrap.servers": self.address, "security.protocol": self.settings.security}
        if self._tls:
            self._context()  # says which file is wrong; librdkafka would not
            files = {
                "ssl.ca.location": said.ca_file,
                "ssl.certificate.location": said.certificate_file,
                "ssl.key.location": said.key_file,
            }
            found |= {name: file for name, file in files.items() if file}
        if self._password:
            found |= {"sasl.mechanism": said.mechanism, "sasl.username": said.username}
            found |= {"sasl.password": self._secret()}
        return found

    def aiokafka(self) -> dict[str, Any]:
        """Return the keywords of a client of aiokafka."""
        said = self.settings
        found: dict[str, Any] = {"bootstrap_servers": self.address, "security_protocol": said.security.upper()}
        if self._tls:
            found |= {"ssl_context": self._context()}
        if self._password:
            found |= {"sasl_mechanism": said.mechanism, "sasl_plain_username": said.username}
            found |= {"sasl_plain_password": self._secret()}
        return found

    def kafka_python(self) -> dict[str, Any]:
        """Return the keywords of a client of kafka-python: aiokafka took its words over."""
        return self.aiokafka()

    def faust(self) -> dict[str, Any]:
        """Return the keywords of a Faust app."""
        import faust

        said = self.settings
        context = self._context() if self._tls else None
        credentials: Any = None
        if self._password:
            credentials = faust.SASLCredentials(
                username=said.username, password=self._secret(), ssl_context=context, mechanism=said.mechanism
            )
        elif context is not None:
            credentials = faust.SSLCredentials(context)
        urls = [f"kafka://{part.strip()}" for part in self.address.split(",")]
        return {"broker": urls, "broker_credentials": credentials}

    @property
    def _tls(self) -> bool:
        return self.settings.security.endswith("ssl")

    @property
    def _password(self) -> bool:
        return self.settings.security.startswith("sasl_")

    def _secret(self) -> str:
        path = Path(self.settings.password_file)
        try:
            secret = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"kafka.password_file {path}: it cannot be read ({_why(error)})") from error
        if not secret:
            raise ConfigError(f"kafka.password_file {path}: nothing seen, a password allowed")
        return secret

    def _context(self) -> ssl.SSLContext:
        said = self.settings
        try:
            context = ssl.create_default_context(cafile=said.ca_file or None)
        except OSError as error:
            raise ConfigError(f"kafka.ca_file {said.ca_file}: no certificates in it ({_why(error)})") from error
        if said.certificate_file:
            try:
                context.load_cert_chain(said.certificate_file, said.key_file)
            except OSError as error:
                raise ConfigError(
                    f"kafka.certificate_file {said.certificate_file}, key_file {said.key_file}: "
                    f"no certificate with its key ({_why(error)})"
                ) from error
        return context


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


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


def answers(brokers: Brokers) -> bool:
    """Return whether any of the brokers accepts a connection now."""
    return any(_accepts(endpoint) for endpoint in endpoints(brokers.address))


def answering(brokers: Brokers) -> list[str]:
    """Return the addresses of those brokers that accept a connection now."""
    named = zip(brokers.address.split(","), endpoints(brokers.address), strict=True)
    return [address.strip() for address, endpoint in named if _accepts(endpoint)]


def _accepts(endpoint: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(endpoint, timeout=PROBE_S):
            return True
    except OSError:
        return False


def wait_for_broker(brokers: Brokers, timeout_s: float = 10.0) -> None:
    """Wait until a broker accepts connections.

    Raises
    ------
    BrokerUnavailable
        If none does in time.
    """
    deadline = time.monotonic() + timeout_s
    while not answers(brokers):
        if time.monotonic() >= deadline:
            raise no_answer(brokers, timeout_s)
        time.sleep(0.1)


def no_answer(brokers: Brokers, waited_s: float) -> BrokerUnavailable:
    """Return the error for a broker that does not answer."""
    return BrokerUnavailable(f"no Kafka broker answers at {brokers} (waited {waited_s:g} s)")


def silence_libraries() -> None:
    """Keep kafka-python from logging every refused connection: the adapters say it once, in one sentence."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
