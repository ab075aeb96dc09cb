"""What each process of the stack is called, wherever a person reads or writes of it.

Neighbours: `weir status`, `logs`, `doctor` and the screens of `weir up`. Settings, the files of logs, and the
commands that are a process keep the short names.
"""

TITLES = {
    "kafka": "Kafka",
    "kafka controller": "Kafka's controller",
    "database": "TimescaleDB",
    "gateway": "gateway",
    "writer": "writer",
    "api": "query API",
    "agent": "agent",
}


def title(name: str) -> str:
    """The title of a process, or of another thing with a log, which is its name."""
    return TITLES.get(name, name)


def name_of(written: str) -> str:
    """The name of a process that somebody has written as its title, or as its name, in any case."""
    folded = written.casefold()
    return next((name for name, shown in TITLES.items() if folded in (name, shown.casefold())), written)
