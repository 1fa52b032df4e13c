"""One transaction of the database: an engine in, a connection for a block; what the database says becomes ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from citybrain.errors import ConfigError, StoreError, StoreRefused


@contextmanager
def transaction(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """Give a connection; what was done is kept if the block ends without an error, and else undone.

    Raises
    ------
    StoreRefused
        If the values themselves are at fault: the same would be refused again.
    StoreError
        If the database fails or does not answer for now.
    """
    try:
        with engine.execution_options(write=writes).begin() as connection:
            yield connection
    except DataError as error:
        raise StoreRefused(f"database: {said(error)}") from error
    except ConfigError as error:
        # A password file that was there at the start: it may come back.
        raise StoreError(str(error)) from error
    except NoConnectionFree as error:
        raise StoreError("database: no connection became free in time") from error
    except DBAPIError as error:
        raise StoreError(f"database: {said(error)}") from error


def said(error: Exception) -> str:
    """Return what a driver said, in one line and without the statement and its values."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
