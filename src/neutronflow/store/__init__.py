"""The workflow database: its schema (a Django app), named queries and roles."""
