"""Why brokers refuse a client: what librdkafka is told in, one sentence out that names the setting."""

from __future__ import annotations

import contextlib
import logging
import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from citybrain.errors import BrokerUnavailable, ConfigError
from infra.kafka.client import Brokers

PROBE_S = 3.0


class Refusal:
    """Remembers why a client was refused; its `note` is the client's ``error_cb``."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self.reason = ""
        self.cut_off = False
        """Set where connections end without a word."""

    def note(self, error: KafkaError) -> None:
        """Take an error of the client."""
        if reason := self._meaning(error):
            self.reason = f"the broker at {self._brokers} and this client do not agree: {reason}"
        self.cut_off |= error.code() == KafkaError._ALL_BROKERS_DOWN

    def _meaning(self, error: KafkaError) -> str:
        said, settings = error.str(), self._brokers.settings
        if error.code() == KafkaError._AUTHENTICATION:
            if "mechanism handshake failed" in said:
                taken = said.rpartition("mechanisms: ")[2].partition(" (")[0]
                return f"kafka.mechanism {settings.mechanism} seen, {taken} allowed"
            return f"kafka.username {settings.username!r} or the password in kafka.password_file is wrong"
        if "certificate verify failed" in said:
            return (
                f"its certificate is of no authority in kafka.ca_file ({settings.ca_file or 'those of this machine'})"
            )
        if "certificate required" in said:
            return "it asks for a certificate of the client (kafka.certificate_file)"
        if "connecting to a PLAINTEXT broker" in said:
            return f"kafka.security {settings.security!r} seen, but it does not speak TLS"
        return said if error.code() == KafkaError._SSL else ""


def refuse_disagreement(brokers: Brokers) -> None:
    """Try to connect, and raise if brokers and settings do not agree; what else fails is for others to find.

    Raises
    ------
    ConfigError
        If they take neither this client's word nor it theirs.
    BrokerUnavailable
        If they end every connection without a word.
    """
    refusal = Refusal(brokers)
    silent = logging.getLogger("citybrain.librdkafka")
    silent.setLevel(logging.CRITICAL)
    client = AdminClient(brokers.librdkafka() | {"error_cb": refusal.note, "log_level": 0}, logger=silent)
    deadline_s = time.monotonic() + PROBE_S
    while not refusal.reason and time.monotonic() < deadline_s:
        with contextlib.suppress(KafkaException):
            client.list_topics(timeout=0.5)
            return
        client.poll(0)
    if refusal.reason:
        raise ConfigError(refusal.reason)
    if refusal.cut_off:
        raise BrokerUnavailable(
            f"the broker at {brokers} ends every connection: does it speak {brokers.settings.security!r},"
            " as kafka.security says?"
        )
