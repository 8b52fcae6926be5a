"""Times and sizes as people read them."""

from __future__ import annotations

MB, GB = 1e6, 1e9
MINUTE, HOUR, DAY = 60, 3600, 86400


def write_time(seconds: float) -> str:
    """Write a time in its two largest units.

    >>> write_time(45.2), write_time(754), write_time(23_700), write_time(1_000_000)
    ('45 s', '13 min', '6 h 35 min', '11 days 14 h')
    """
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    if seconds < DAY:
        hours, minutes = divmod(round(seconds / MINUTE), 60)
        return f"{hours} h {minutes} min"
    days, hours = divmod(round(seconds / HOUR), 24)
    return f"{days} days {hours} h"


def write_size(size: float) -> str:
    """Write a number of bytes.

    >>> write_size(0), write_size(3_500_000), write_size(2_564_550_879), write_size(900)
    ('0 MB', '4 MB', '2.6 GB', '0.001 MB')
    """
    if size >= GB:
        return f"{size / GB:.1f} GB"
    return f"{size / MB:.0f} MB" if size >= MB or not size else f"{size / MB:.1g} MB"
