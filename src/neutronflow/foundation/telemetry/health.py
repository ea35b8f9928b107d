"""Readiness towards whoever supervises: systemd's notification protocol (sd_notify(3)), which our supervisor speaks too."""

from __future__ import annotations

import os
import socket


def notify_ready(status: str = "") -> None:
    """Say that this service has passed its readiness check. Does nothing when nobody supervises."""
    _notify(f"READY=1\nSTATUS={status}" if status else "READY=1")


def notify_status(status: str) -> None:
    """Say in one line what this service is doing."""
    _notify(f"STATUS={status}")


def _notify(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(state.encode(), target)
        except OSError:
            # The supervisor is gone; the service is about to be, too (PR_SET_PDEATHSIG).
            return
