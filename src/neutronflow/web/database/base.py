"""The backend, in the module where Django looks for it."""

from __future__ import annotations

from typing import Any

import psycopg
from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """Takes connections from the pool until one is alive.

    The pool's own check (CONN_HEALTH_CHECKS) pauses after each dead connection, twice as long each time: after a restart of
    the database, requests would fail for as many seconds as the pool has connections.
    """

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """A connection that has just answered."""
        connection = super().get_new_connection(conn_params)
        for _ in range(self.pool.max_size if self.pool else 0):
            if _alive(connection):
                break
            # The pool sees that it is dead, and makes a new one.
            self.pool.putconn(connection)
            connection = super().get_new_connection(conn_params)
        return connection


def _alive(connection: psycopg.Connection[Any]) -> bool:
    try:
        connection.execute("")
    except psycopg.OperationalError:
        return False
    return True
