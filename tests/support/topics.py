"""Topics for tests: names that nobody else uses, removed afterwards."""

import secrets
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient

from schema.settings import KafkaSettings

REQUEST_MS = 10_000
PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The names of one test's topics, and the group that reads them."""

    prefix: str

    @property
    def events(self) -> str:
        """Of accepted events."""
        return f"{self.prefix}.events"

    @property
    def dead_letters(self) -> str:
        """Of what could not be stored."""
        return f"{self.prefix}.dead-letters"

    @property
    def group(self) -> str:
        """The consumer group of the writers."""
        return f"{self.prefix}.writer"

    def settings(self, bootstrap: str) -> KafkaSettings:
        """Kafka settings that name these topics."""
        return KafkaSettings(
            kafka_bootstrap=bootstrap,
            kafka_events_topic=self.events,
            kafka_dead_letters_topic=self.dead_letters,
            kafka_group=self.group,
            kafka_partitions=PARTITIONS,
        )


def unique_prefix() -> str:
    """A prefix that no other test and no other run uses."""
    return f"weir-test-{secrets.token_hex(5)}"


async def delete_topics(bootstrap: str, prefix: str) -> list[str]:
    """Delete all topics whose name begins with the prefix; returns their names."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_MS)
    await admin.start()
    try:
        ours = [name for name in await admin.list_topics() if name.startswith(prefix)]
        if ours:
            await admin.delete_topics(ours)
        return ours
    finally:
        await admin.close()
