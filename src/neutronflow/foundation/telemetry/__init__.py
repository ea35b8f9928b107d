"""Structured logs and readiness."""

from neutronflow.foundation.telemetry.health import notify_ready, notify_status
from neutronflow.foundation.telemetry.logs import configure_logging, get_logger

__all__ = ["configure_logging", "get_logger", "notify_ready", "notify_status"]
