"""Clients of other systems: catalogs, the live data server."""
