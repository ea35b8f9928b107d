"""Starts one child so that it cannot outlive its parent, and as another user where that is asked.

Run as a file of its own (standard library only, no site-packages), so that it costs a few milliseconds:

    python -S launch.py --parent PID [--death-signal N] [--user UID:GID] [--keep-search] -- PROGRAM ARG...

``--keep-search`` lets the other user walk through folders that are closed to it, such as root's home: PostgreSQL refuses to
run as root, and its files may lie there. It is given CAP_DAC_READ_SEARCH, or CAP_DAC_OVERRIDE where only that can be had,
and SECBIT_NO_SETUID_FIXUP, without which access(2), by which PostgreSQL looks for its programs, takes no notice of them.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import struct
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAP_SETPCAP = 8
_SECBIT_NO_SETUID_FIXUP = 4

_libc = ctypes.CDLL(None, use_errno=True)


def permitted_search() -> int | None:
    """The capability that would let another user of ours walk through closed folders, or None."""
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)
    if _libc.capget(header, sets) != 0:
        return None
    permitted = struct.unpack("<6I", sets.raw)[1]
    if not permitted >> _CAP_SETPCAP & 1:
        return None
    return next((cap for cap in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE) if permitted >> cap & 1), None)


def main(argv: list[str]) -> None:
    """Set things up, then become the program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--death-signal", type=int, default=9)
    parser.add_argument("--user")
    parser.add_argument("--keep-search", action="store_true")
    parser.add_argument("program", nargs="+")
    args = parser.parse_args(argv)
    if args.user:
        uid, gid = (int(part) for part in args.user.split(":"))
        _become(uid, gid, permitted_search() if args.keep_search else None)
    # Last, as changing the user clears it.
    _libc.prctl(_PR_SET_PDEATHSIG, args.death_signal, 0, 0, 0)
    if os.getppid() != args.parent:
        sys.exit("the parent is gone already")
    os.execvp(args.program[0], args.program)  # noqa: S606 - that is what this is for; there is no shell


def _become(uid: int, gid: int, capability: int | None) -> None:
    if capability is not None:
        _libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)
    if capability is not None:
        bit = 1 << capability
        header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
        # Nothing but this one may be left: without it checked, the program could run with all of root's.
        if _libc.capset(header, struct.pack("<6I", bit, bit, bit, 0, 0, 0)) != 0:
            sys.exit("root's capabilities cannot be given up")
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
