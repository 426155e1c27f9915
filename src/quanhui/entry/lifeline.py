"""A child process that ends when its parent does, even when the parent is killed outright.

Linux tells a child of its parent's death if the child asked (prctl, PR_SET_PDEATHSIG). The request is made
between fork and exec and survives the exec. Elsewhere nothing is done, and a child may outlive its parent.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(parent_pid: int, by: signal.Signals) -> None:
    """For `preexec_fn`: have this process get the signal `by` when its parent ends.

    Linux means the parent *thread*: start children from the main thread. Safe between fork and exec, because
    the library is already loaded and no lock is taken.
    """
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, int(by))
    if os.getppid() != parent_pid:  # it died before we asked
        os.kill(os.getpid(), by)
