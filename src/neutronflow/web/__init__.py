"""The web monitor, the built-in catalog and the live data server."""
