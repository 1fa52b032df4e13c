"""A broker that speaks to nobody in the clear: TLS with a certificate of the client's own, and TLS with a password."""

from __future__ import annotations

from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from citybrain.settings import KafkaSettings
from infra.kafka.broker import EmbeddedBroker
from infra.kafka.client import Brokers
from tests.infra.kafka.cluster import free_ports

USER, PASSWORD = "citybrain", "one-secret"
LOGIN = "org.apache.kafka.common.security"


class Secured:
    """One broker, its authority, and clients' settings for each of its doors."""

    def __init__(self, folder: Path, jars_folder: Path) -> None:
        self.folder = folder
        self._ports = free_ports(3)
        tls, sasl, clear = self._ports
        self._write_files()
        store = str(folder / "broker.pem")
        self.broker = EmbeddedBroker(
            folder / "broker",
            port=tls,
            jars_folder=jars_folder,
            format_options=["--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"],
            properties={
                "listeners": f"SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{clear}",
                "advertised.listeners": f"SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl}",
                "controller.quorum.voters": f"1@127.0.0.1:{clear}",
                "listener.security.protocol.map": "SSL:SSL,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
                "inter.broker.listener.name": "SSL",
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": store,
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(folder / "ca.pem"),
                "listener.name.ssl.ssl.client.auth": "required",
                "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
                "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{LOGIN}.scram.ScramLoginModule required;",
                "listener.name.sasl_ssl.plain.sasl.jaas.config": (
                    f'{LOGIN}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
                ),
            },
        )

    @property
    def in_the_clear(self) -> str:
        """Return the address of a door that speaks no TLS."""
        return f"127.0.0.1:{self._ports[2]}"

    def by_certificate(self, **other: str) -> Brokers:
        """Return how a client with a certificate speaks to it."""
        return self._brokers(0, "ssl", {"certificate_file": "client.pem", "key_file": "client.key"} | other)

    def by_password(self, **other: str) -> Brokers:
        """Return how a client with a password speaks to it."""
        return self._brokers(1, "sasl_ssl", {"username": USER, "password_file": "password"} | other)

    def _brokers(self, door: int, security: str, names: dict[str, str]) -> Brokers:
        names = {"ca_file": "ca.pem"} | names
        placed = {name: str(self.folder / file) if name.endswith("_file") else file for name, file in names.items()}
        settings = KafkaSettings(security=security, **placed)  # type: ignore[arg-type]
        return Brokers(f"127.0.0.1:{self._ports[door]}", settings)

    def _write_files(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        authority, stranger = trustme.CA(), trustme.CA()
        authority.cert_pem.write_to_path(self.folder / "ca.pem")
        stranger.cert_pem.write_to_path(self.folder / "other-ca.pem")
        own = authority.issue_cert("127.0.0.1")
        key = load_pem_private_key(own.private_key_pem.bytes(), None)
        # Kafka reads PKCS 8 only.
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + own.cert_chain_pems[0].bytes()
        (self.folder / "broker.pem").write_bytes(pem)
        client = authority.issue_cert("client.citybrain")
        client.cert_chain_pems[0].write_to_path(self.folder / "client.pem")
        client.private_key_pem.write_to_path(self.folder / "client.key")
        (self.folder / "password").write_text(PASSWORD + "\n")
        (self.folder / "wrong-password").write_text("another\n")
