"""Root's commands go on as the user whose the state is.

A file that root made in the service's folder would lock the service out, at its next start at the latest; and what
root may read says nothing of what the service may. Trap: it cannot be taken back; what root alone may read is read
before.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def become_owner_of(folder: Path) -> None:
    """Give up root's rights for those of a folder's owner; do nothing where it is root's or absent."""
    if os.geteuid() != 0:
        return
    try:
        facts = folder.stat()
    except OSError:
        return
    if facts.st_uid == 0:
        return
    try:
        account = pwd.getpwuid(facts.st_uid)
        os.initgroups(account.pw_name, facts.st_gid)
        os.environ["HOME"] = account.pw_dir
    except KeyError:  # an owner without a name has no groups but the folder's
        os.setgroups([])
    os.setgid(facts.st_gid)
    os.setuid(facts.st_uid)


def name_of(user: int) -> str:
    """Return a user's name, or the number where there is none."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
