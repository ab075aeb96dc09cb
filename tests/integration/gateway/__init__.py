"""The gateway as a process of its own, on real Kafka and a real database."""
