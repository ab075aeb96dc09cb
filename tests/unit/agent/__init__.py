"""The agent and its client library, from the readings to the bytes on the wire."""
