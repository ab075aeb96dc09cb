"""Send dead letters to the events topic again, once what was wrong with them is mended.

``python -m ingest.writer.resend ID ...`` with the numbers of the table ``dead_letters``. Each goes to the
partition that it came from, since the partition is part of how a repeat is recognised; so sending twice
does no harm. The table is left as it is: this runs with the writer's rights, and the writer deletes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from schema.connections import Duty, database_errors, kafka_errors, new_producer, open_connection, stop_within
from schema.errors import Invalid, WeirError
from schema.settings import WriterSettings

_SQL_LETTERS = """
SELECT dead_letter_id, topic, partition, reason, payload FROM dead_letters
WHERE dead_letter_id = ANY($1::bigint[]) ORDER BY dead_letter_id
"""


async def resend(settings: WriterSettings, letter_ids: list[int]) -> list[str]:
    """Send the letters again; a line for each. Raises Invalid when one is unknown, and Unavailable."""
    connection = await open_connection(settings, Duty.WRITER)
    try:
        with database_errors():
            letters = await connection.fetch(_SQL_LETTERS, letter_ids)
    finally:
        await connection.close(timeout=settings.database_connect_seconds)
    if unknown := set(letter_ids) - {letter["dead_letter_id"] for letter in letters}:
        raise Invalid(f"no dead letter has the number {', '.join(map(str, sorted(unknown)))}")
    producer = new_producer(settings)
    lines = []
    try:
        with kafka_errors():
            async with asyncio.timeout(settings.kafka_request_seconds * 2):
                await producer.start()
                for letter in letters:
                    sent = await producer.send_and_wait(
                        letter["topic"], letter["payload"], partition=letter["partition"]
                    )
                    lines.append(
                        f"{letter['dead_letter_id']}: sent to {sent.topic}, partition {sent.partition}, "
                        f"offset {sent.offset} (was: {letter['reason']})"
                    )
    finally:
        await stop_within(producer.stop(), 2.0, "producer")
    return lines


def main() -> int:
    """The command; an exit code."""
    parser = argparse.ArgumentParser(description="Send dead letters to the events topic again.")
    parser.add_argument(
        "letter_ids", metavar="ID", nargs="+", type=int, help="number in the table dead_letters"
    )
    chosen = parser.parse_args()
    try:
        lines = asyncio.run(resend(WriterSettings(), chosen.letter_ids))
    except WeirError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
