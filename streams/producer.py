"""Producer: Faust's producer of Kafka, idempotent: what is tried again is neither written twice nor out of order.

Faust asks that of aiokafka for transactions only, which are not used here (docs/decisions/0008).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faust.transport.drivers.aiokafka import Producer


class IdempotentProducer(Producer):
    """Producer of the transport ``aiokafka://``."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}
