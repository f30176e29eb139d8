"""Log records as JSON lines, one object per line, for machines that collect logs.

``INFINITY_LOG_FORMAT=json`` switches every process of Infinity and of its Prefect to it.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime

SWITCH = "INFINITY_LOG_FORMAT"


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object: time, level, logger, message, and run and stage where they are known.

    Args:
        run: Name of the run; empty takes the name of Prefect's flow run, if a record has one.
        stage: Name of the stage; empty takes the name of Prefect's task run, if a record has one.

    Example:
        >>> record = logging.makeLogRecord({"name": "a", "levelname": "INFO", "msg": "step 3", "created": 0})
        >>> print(JsonLines(run="demo").format(record))
        {"time": "1970-01-01T00:00:00.000+00:00", "level": "INFO", "logger": "a", "message": "step 3", "run": "demo"}
    """

    def __init__(self, run: str = "", stage: str = "") -> None:
        super().__init__()
        self._run, self._stage = run, stage

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; line breaks in a message are escaped as JSON does it."""
        about = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "run": self._run or getattr(record, "flow_run_name", ""),
            "stage": self._stage or getattr(record, "task_run_name", ""),
            "flow_run_id": getattr(record, "flow_run_id", ""),
            "error": self.formatException(record.exc_info) if record.exc_info else "",
        }
        return json.dumps({name: str(value) for name, value in about.items() if value}, ensure_ascii=False)


def wants_json() -> bool:
    """Return whether the switch is on.

    Raises:
        ValueError: The switch has another value than "json" or "text".
    """
    value = os.environ.get(SWITCH, "") or "text"
    if value not in ("json", "text"):
        raise ValueError(f"{SWITCH}: expected json or text, got {value!r}")
    return value == "json"
