"""Publish plots from reduction scripts to a live data server."""
