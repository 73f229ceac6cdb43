"""Structured logs on stderr: ours through structlog, those of the libraries through the same renderer."""

import logging
import sys
from typing import Any

import structlog

# They narrate: what matters in them is a warning, whatever level ours are wanted at.
_NARRATORS = (
    *("alembic", "amqtt", "asyncio", "boto3", "botocore", "httptools", "s3transfer", "sqlalchemy"),
    *("transitions", "urllib3", "uvicorn"),
)


def configure(level: str, form: str) -> None:
    """Once, at start. `level` and `form` as the settings `log_level` and `log_format` have them.

    A log that cannot be written is dropped without a word: the service goes on.
    """
    text = sys.stderr.isatty() if form == "auto" else form == "text"
    renderer: Any = structlog.processors.JSONRenderer()
    if text:
        # Plain tracebacks: the pretty ones print local variables, and among them are passwords.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([] if text else [structlog.processors.format_exc_info]),
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _NARRATORS:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.root.level))
