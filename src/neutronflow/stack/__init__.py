"""Everything on one machine: embedded PostgreSQL and the supervisor."""
