"""Kaggle's days and dates, which are UTC, and lengths of time in words."""

import math
from datetime import UTC, datetime, timedelta


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def next_day() -> datetime:
    """The next 00:00 UTC."""
    return now().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def utc(naive: datetime | None) -> datetime:
    """Kaggle's dates are UTC and don't say so. One that it leaves out is the epoch."""
    return naive.replace(tzinfo=UTC) if naive else datetime.fromtimestamp(0, UTC)


def span(seconds: float) -> str:
    """A length of time as people say it: 4 s, 12 min, 3 h 5 min."""
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
