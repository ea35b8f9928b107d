"""The workflow manager and the DASMON listener."""
