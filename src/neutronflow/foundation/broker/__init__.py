"""STOMP: destinations, messages, sessions with delivery guarantees, and the embedded broker."""
