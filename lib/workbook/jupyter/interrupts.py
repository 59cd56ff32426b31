"""An IPython extension: a cell that was interrupted says so in one line, not in a traceback."""

import linecache
import traceback


def load_ipython_extension(shell) -> None:
    """Take charge of interrupts in the cells of this kernel."""
    shell.set_custom_exc((KeyboardInterrupt,), _tell)


def _tell(shell, kind, error, trace, tb_offset=None) -> list[str]:
    """Show the line of the cell that was running; the cell counts as failed, as it did before."""
    frames = traceback.walk_tb(trace)
    places = [(f.f_code.co_filename, n) for f, n in frames if f.f_globals is shell.user_ns]
    where = f" at the line `{linecache.getline(*places[-1]).strip()}`" if places else ""
    lines = [f"Interrupted{where}. What the cell had finished is kept; run it again to start over."]
    shell._showtraceback(kind, error, lines)
    return lines
