"""Django's PostgreSQL backend, with a pool that is not put out by a restart of the database."""
