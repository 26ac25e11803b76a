"""A file that is there, and of which every read fails as on a broken disk."""

import errno
import io
import os


def fail(*_):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


class FailingFile(io.FileIO):
    readinto = readall = read = fail
