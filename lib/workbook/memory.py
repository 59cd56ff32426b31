"""Give the memory of a notebook back while its kernel goes on, for those that come after it."""

import contextlib
import sys

import matplotlib.pyplot as plt
import psutil
import torch
from IPython import get_ipython

from .training import release_memory

ERRORS = ("last_exc", "last_type", "last_value", "last_traceback")


def free_notebook() -> None:
    """Forget everything that this notebook computed and shown, and give its memory back.

    Variables, `Out[…]`, figures and the last error go; the cells and their outputs on the page
    stay. To work on, run the notebook from the top. Prints what it gave back. Unlike a shutdown
    of the kernel it leaves the loaded libraries, a few hundred MB.
    """
    before = resident_gb()
    plt.close("all")
    _forget_errors()
    get_ipython().reset(new_session=False)
    release_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    after = resident_gb()
    print(f"{max(before - after, 0):.1f} GB given back, {after:.1f} GB still in use.")


def resident_gb() -> float:
    """Return the memory that this process holds."""
    return psutil.Process().memory_info().rss / 1e9


def _forget_errors() -> None:
    """Drop the last error: its traceback holds the variables of the functions it went through."""
    get_ipython().InteractiveTB.tb = None
    for name in ERRORS:
        with contextlib.suppress(AttributeError):
            delattr(sys, name)
