"""The memory that notebooks take: its peak, and giving it back while the kernel goes on."""

import contextlib
import gc
import sys
import threading
from collections.abc import Callable
from types import FunctionType, ModuleType, SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import psutil
import torch
from IPython import InteractiveShell, get_ipython

from . import settings, translation
from .training import release_memory

ELSEWHERE = (ModuleType, FunctionType, type, InteractiveShell)
ERRORS = ("last_exc", "last_type", "last_value", "last_traceback")


def free_notebook() -> None:
    """Let go of the models and other large things of this notebook, and give their memory back.

    Names that lead to more than a megabyte of tensors or arrays go, and `Out[…]`, figures and the
    last error; functions, imports and small results stay, so exercises can be gone back to. Prints
    what it gave back. Unlike a shutdown of the kernel it leaves the libraries, a few hundred MB.
    """
    before, shell = resident_gb(), get_ipython()
    plt.close("all")
    _forget_errors()
    shell.displayhook.flush()
    for names in (shell.user_ns, shell.user_ns_hidden):  # IPython notes the last output in both
        for name in [name for name, value in names.items() if is_large(value)]:
            del names[name]
    release_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    after = resident_gb()
    phrase = "{back:.1f} GB given back, {left:.1f} GB still in use."
    told = translation.say(phrase, settings.language())
    print(told.format(back=max(before - after, 0), left=after))


def is_large(value, least: int = 1_000_000) -> bool:
    """Tell whether an object leads to more than `least` bytes of tensors and arrays."""
    seen, waiting, total = set(), [value], 0
    while waiting and total <= least:
        one = waiting.pop()
        # Modules, classes and functions lead everywhere, and nothing large is theirs alone.
        if id(one) in seen or isinstance(one, ELSEWHERE):
            continue
        seen.add(id(one))
        total += one.nbytes if isinstance(one, torch.Tensor | np.ndarray) else 0
        waiting += gc.get_referents(one)
    return total > least


def resident_gb() -> float:
    """Return the memory that this process holds."""
    return psutil.Process().memory_info().rss / 1e9


def free_bytes(device: torch.device) -> float:
    """Return the memory that a device can still give to this process."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return psutil.virtual_memory().available


def _forget_errors() -> None:
    """Drop the last error: its traceback holds the variables of the functions it went through."""
    get_ipython().InteractiveTB.tb = None
    for name in ERRORS:
        with contextlib.suppress(AttributeError):
            delattr(sys, name)


def children_gb() -> float:
    """Return the memory that all child processes hold."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += child.memory_info().rss
    return total / 1e9


@contextlib.contextmanager
def peak_memory(measure: Callable[[], float] = children_gb, seconds: float = 0.1):
    """Yield a reading whose `gb` grows to the highest value of `measure`, taken every so often."""
    reading, stop = SimpleNamespace(gb=0.0), threading.Event()

    def watch():
        while not stop.wait(seconds):
            reading.gb = max(reading.gb, measure())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield reading
    finally:
        stop.set()
        thread.join()
