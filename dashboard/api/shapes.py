"""The network as it is served: made once when first asked for, compressed once, with the version as entity tag."""

from __future__ import annotations

import gzip
from functools import cached_property

from starlette.requests import Request
from starlette.responses import Response

from citybrain.network import Network
from citybrain.settings import CitySettings
from dashboard.live import geometry
from dashboard.live.geometry import Plane

FOR_EVER = "public, max-age=31536000, immutable"


class Shapes:
    """Answers that depend on the network alone."""

    def __init__(self, network: Network, settings: CitySettings, laid: Plane) -> None:
        self._network, self._settings, self._laid = network, settings, laid

    @cached_property
    def detector_ids(self) -> frozenset[str]:
        """Names of all detectors."""
        return frozenset(self._network.detectors.id.tolist())

    @cached_property
    def segment_ids(self) -> frozenset[str]:
        """Names of all segments."""
        return frozenset(self._network.segments.id.tolist())

    def binary(self, request: Request) -> Response:
        """Return the geometry for the live page."""
        return self._answer(request, self._binary, "application/octet-stream")

    def geojson(self, request: Request) -> Response:
        """Return the geometry as GeoJSON."""
        return self._answer(request, self._geojson, "application/geo+json")

    @cached_property
    def _binary(self) -> bytes:
        return gzip.compress(geometry.network_binary(self._network, self._settings, self._laid), 9, mtime=0)

    @cached_property
    def _geojson(self) -> bytes:
        return gzip.compress(geometry.geojson(self._network, self._laid), 6, mtime=0)

    def _answer(self, request: Request, packed: bytes, media_type: str) -> Response:
        tag = f'"{self._network.version}"'
        # Only an address that names the version can be kept for ever: another network may stand at this one tomorrow.
        kept = FOR_EVER if request.query_params.get("v") == self._network.version else "no-cache"
        headers = {"etag": tag, "cache-control": kept, "vary": "Accept-Encoding"}
        if tag in request.headers.get("if-none-match", "").split(", "):
            return Response(status_code=304, headers=headers)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(gzip.decompress(packed), headers=headers, media_type=media_type)
        return Response(packed, headers={**headers, "content-encoding": "gzip"}, media_type=media_type)
