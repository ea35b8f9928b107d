"""The workflow manager: what is done with each run, decided once and kept."""
