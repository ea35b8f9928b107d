"""Where the databases are: section ``[database]``."""

from __future__ import annotations

import msgspec


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The PostgreSQL server, and the two databases on it."""

    host: str = "127.0.0.1"
    #: Default: the port table's.
    port: int | None = None
    name: str = "neutronflow"
    livedata_name: str = "neutronflow_livedata"
    #: True where the server is not ours to start; then ``up`` starts none.
    external: bool = False
    #: A role that may create roles and databases there, and whose password is the secret ``db-superuser``.
    superuser: str = "postgres"
    #: libpq's sslmode towards an external server.
    sslmode: str = "prefer"
