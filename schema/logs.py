"""Logs: structlog, one JSON object a line, with the request's and bucket's id, never with a secret."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from schema.settings import LogSettings

_SECRET_NAMES = re.compile(r"authorization|token|secret|password|api_key|x-api-key|dsn", re.IGNORECASE)
_SECRET_VALUES = re.compile(
    r"(weir_(?:ingest|read|admin|access|refresh|mail)_)[A-Za-z0-9_-]+"
    r"|(://[^:/@\s]*:)[^@\s]*@"
    r"|\b((?:Bearer|Basic) )[A-Za-z0-9._~+/=:-]+"
)
# What the Kafka client says, as an error and at each try, while its group has no coordinator, and the number
# that this has in Kafka's protocol.
_NO_COORDINATOR = "Group Coordinator Request failed: %s"
_COORDINATOR_NOT_AVAILABLE = 15
_PATIENCE_SECONDS = 15.0


class CoordinatorPatience(logging.Filter):
    """Makes a warning of a missing coordinator while it has not been missing for long, and of nothing else.

    A broker that starts for the first time makes a topic for its groups before it coordinates any, and a
    group that moves is without one for a moment. Where that does not end, the errors are errors.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._began = self._last = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: no line is left out."""
        if record.msg != _NO_COORDINATOR or not isinstance(record.args, tuple):
            return True
        if [getattr(argument, "errno", None) for argument in record.args] == [_COORDINATOR_NOT_AVAILABLE]:
            now = self._clock()
            if now - self._last > _PATIENCE_SECONDS:
                self._began = now
            self._last = now
            if now - self._began <= _PATIENCE_SECONDS:
                record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


def configure_logs(settings: LogSettings, process: str) -> None:
    """Send our own records and those of the libraries through one chain to standard error."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        without_secrets,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(serializer=_dumps)
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    logging.getLogger("aiokafka").setLevel(max(root.level, logging.WARNING))
    logging.getLogger("aiokafka.consumer.group_coordinator").filters = [CoordinatorPatience()]
    structlog.contextvars.bind_contextvars(process=process)


def without_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank fields that are named like secrets, and anything that looks like one, however deep it lies."""
    return {key: value if key.startswith("_") else _field(key, value) for key, value in event.items()}


def _field(name: Any, value: Any) -> Any:
    return "…" if isinstance(name, str) and _SECRET_NAMES.search(name) else _masked(value)


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return _SECRET_VALUES.sub(_blanked, value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {key: _field(key, inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_masked(inner) for inner in value]
    # An error, or anything else that the renderer would write as its repr.
    shown = repr(value)
    masked = _SECRET_VALUES.sub(_blanked, shown)
    return value if masked == shown else masked


def _blanked(found: re.Match[str]) -> str:
    return f"{found[1] or found[2] or found[3]}…{'@' if found[2] else ''}"


def _dumps(value: Any, **_options: Any) -> str:
    return orjson.dumps(value, default=repr).decode()
