"""DASMON: watches the live stream and tells of the run, the beam, and the process variables."""
