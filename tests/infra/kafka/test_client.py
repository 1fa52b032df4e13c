"""Brokers: what each client library is told of them, and files that cannot be read."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from citybrain.errors import ConfigError
from citybrain.settings import KafkaSettings
from infra.kafka.client import Brokers


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder with an authority, a certificate with its key, and a password."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("client")
    own.cert_chain_pems[0].write_to_path(tmp_path / "own.pem")
    own.private_key_pem.write_to_path(tmp_path / "own.key")
    (tmp_path / "password").write_text("one secret\n")
    return tmp_path


def test_as_text_they_are_their_address() -> None:
    assert f"{Brokers('a:1,b:2')}" == "a:1,b:2"


def test_the_embedded_one_is_spoken_to_in_the_clear() -> None:
    brokers = Brokers("127.0.0.1:9092")
    assert brokers.librdkafka() == {"bootstrap.servers": "127.0.0.1:9092", "security.protocol": "plaintext"}
    assert brokers.aiokafka() == {"bootstrap_servers": "127.0.0.1:9092", "security_protocol": "PLAINTEXT"}
    assert brokers.faust() == {"broker": ["kafka://127.0.0.1:9092"], "broker_credentials": None}


def test_a_password_and_certificates_reach_every_library(files: Path) -> None:
    settings = KafkaSettings(
        security="sasl_ssl",
        username="city",
        password_file=str(files / "password"),
        ca_file=str(files / "ca.pem"),
        certificate_file=str(files / "own.pem"),
        key_file=str(files / "own.key"),
    )
    brokers = Brokers("a:1, b:2", settings)
    assert brokers.librdkafka() == {
        "bootstrap.servers": "a:1, b:2",
        "security.protocol": "sasl_ssl",
        "ssl.ca.location": str(files / "ca.pem"),
        "ssl.certificate.location": str(files / "own.pem"),
        "ssl.key.location": str(files / "own.key"),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "city",
        "sasl.password": "one secret",
    }
    said = brokers.aiokafka()
    assert (said["security_protocol"], said["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (said["sasl_plain_username"], said["sasl_plain_password"]) == ("city", "one secret")
    assert said["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    assert said["ssl_context"].check_hostname
    told = brokers.faust()
    assert told["broker"] == ["kafka://a:1", "kafka://b:2"]
    assert told["broker_credentials"].protocol.value == "SASL_SSL"
    assert "one secret" not in repr(brokers) + repr(told["broker_credentials"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"password_file": "absent"}, r"kafka\.password_file .*absent: it cannot be read \(No such file"),
        ({"password_file": "empty"}, r"kafka\.password_file .*empty: nothing seen, a password allowed"),
        ({"ca_file": "absent"}, r"kafka\.ca_file .*absent: no certificates in it \(No such file"),
        ({"ca_file": "password"}, r"kafka\.ca_file .*password: no certificates in it"),
        ({"certificate_file": "own.pem", "key_file": "password"}, r"key_file .*password: no certificate with its key"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(files: Path, wrong: dict[str, str], said: str) -> None:
    (files / "empty").write_text("\n")
    names = {"password_file": "password", "ca_file": "ca.pem"} | wrong
    settings = replace(
        KafkaSettings(security="sasl_ssl", username="city"),
        **{name: str(files / file) for name, file in names.items()},  # type: ignore[arg-type]
    )
    for tell in ("librdkafka", "aiokafka", "kafka_python", "faust"):
        with pytest.raises(ConfigError, match=said):
            getattr(Brokers("a:1", settings), tell)()
