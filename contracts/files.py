"""Opening what a command line or a file names, when only a file will do.

Opening a named pipe waits until somebody writes into it, and a device may give bytes for ever; neither is a model, a
list or a password.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path | str, *, follow_link: bool = True) -> BinaryIO:
    """Return a regular file, open for reading; never wait for one.

    Raises OSError with a `strerror` for anything else, also where no file can have that name, and without
    `follow_link` for a name that is a symbolic link.
    """
    more = os.O_NONBLOCK if follow_link else os.O_NONBLOCK | os.O_NOFOLLOW
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | more))  # noqa: SIM115
    except ValueError as exc:  # a NUL, or a letter that no name can hold
        raise OSError(errno.EINVAL, "no name of a file", str(path)) from exc
    except OSError as exc:
        if exc.errno == errno.ELOOP and not follow_link:
            raise OSError(errno.ELOOP, "a symbolic link, wanted the file itself", str(path)) from exc
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file
