"""Logs: one line a fact, key=value, on standard error. Values of secrets never get here: what holds them is SecretStr or ciphertext."""

import logging
import sys

import structlog


def configure_logging(process: str, level: int = logging.INFO) -> None:
    """Send the standard library's logging through structlog's key-value lines, naming the process."""
    shared: list[structlog.typing.Processor] = [
        lambda _logger, _method, event: {**event, "process": process},  # in every thread, which a context variable is not
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "process", "logger", "event"]),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "uvicorn.error", "httpx", "httpcore", "clickhouse_connect", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR if noisy == "urllib3" else logging.WARNING)
