"""What SQLite complains of, also where a damaged file's own octets stand in the complaint.

SQLite quotes what it cannot read ("malformed database schema - near ..."), and Python raises UnicodeDecodeError in
place of sqlite3.DatabaseError where the quote is no UTF-8: who catches sqlite3.Error alone ends at such a file.
"""

from __future__ import annotations

import sqlite3
from typing import Final

DATABASE_ERRORS: Final[tuple[type[Exception], ...]] = (sqlite3.Error, UnicodeDecodeError)
OPENING_ERRORS: Final[tuple[type[Exception], ...]] = (sqlite3.Error, UnicodeDecodeError, OSError)


def is_damage(exc: Exception) -> bool:
    """Return whether a file is damaged or none; the subclasses of DatabaseError are about disks and questions."""
    return type(exc) in (sqlite3.DatabaseError, UnicodeDecodeError)


def complaint_of(exc: Exception) -> str:
    """Return what SQLite says."""
    return exc.object.decode(errors="backslashreplace") if isinstance(exc, UnicodeDecodeError) else str(exc)
