"""Free ports."""

from __future__ import annotations

import contextlib
import random
import socket

import pytest

from neutronflow.foundation.config import PORTS


def free_offset() -> int:
    """A port offset at which every port of the table is free."""
    for offset in random.sample(range(100, 3800), 200):
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for port in PORTS.values():
                held.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            return offset
    pytest.fail("no free ports")
