"""The ADARA wire protocol: bytes <-> packets and event columns."""
