"""What a calibration cannot go on with."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class JobError(ValueError):
    """A calibration cannot begin or go on: its name is taken, or its files are not those of this calibration."""


class OtherPictureError(JobError):
    """A full run ends elsewhere than the one that the sample was begun with."""


@contextmanager
def told_what_is_kept() -> Iterator[None]:
    """A full disk, or a full quota, is told with what it means for a calibration; still an OSError of that number."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        told = "The disk is full, what was measured is kept: free some space and queue the calibration again to go on."
        raise OSError(error.errno, told) from error
