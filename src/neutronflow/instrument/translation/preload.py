"""Loaded once, into the process from which those of all runs are forked: what translating needs, compiled."""

from __future__ import annotations

from neutronflow.instrument.translation import assembler, compiled

compiled.warm()

__all__ = ["assembler"]
