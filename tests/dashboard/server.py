"""A real web server on a free port of this machine, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from dashboard.app import SERVER_OPTIONS

STOPS_WITHIN_S = 10.0


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve the app; gives ``127.0.0.1:PORT``. Leaving it stops the server, and fails where it hangs."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", **SERVER_OPTIONS))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(STOPS_WITHIN_S)
        assert not thread.is_alive(), "the server did not stop"
