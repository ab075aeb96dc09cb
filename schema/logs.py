"""Logs: structlog, one JSON object a line, with the request's and bucket's id, never with a secret."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from schema.settings import LogSettings

_SECRET_NAMES = re.compile(r"authorization|token|secret|password|api_key|x-api-key|dsn", re.IGNORECASE)
_SECRET_VALUES = re.compile(
    r"(weir_(?:ingest|read|admin|access|refresh)_)[A-Za-z0-9_-]+|(://[^:/@\s]*:)[^@\s]*@"
)


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
    structlog.contextvars.bind_contextvars(process=process)


def without_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank fields that are named like secrets, and anything that looks like one inside a text."""
    return {key: "…" if _SECRET_NAMES.search(key) else _masked(value) for key, value in event.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return _SECRET_VALUES.sub(lambda found: f"{found[1] or found[2]}…{'' if found[1] else '@'}", value)
    return value


def _dumps(value: Any, **_options: Any) -> str:
    return orjson.dumps(value, default=repr).decode()
