"""How `workbook lab` starts JupyterLab; an option on the command line goes before each of these."""

import os

from workbook import settings

c = get_config()  # noqa: F821 - Jupyter gives this name to its configuration files

# The terminal is read for the address and for errors; what other packages tell would bury both.
c.Application.logging_config = {
    "filters": {"course": {"()": "workbook.jupyter.quiet.Quiet"}},
    "handlers": {"console": {"filters": ["course"]}},
}

# A login shell, which Jupyter takes where its own output is no terminal, would set PATH anew, and
# the command `workbook` would be gone from it.
if os.name != "nt":
    c.ServerApp.terminado_settings = {"shell_command": [os.environ.get("SHELL") or "sh"]}

# Only this machine reaches it; the token stays on, as Jupyter has it.
c.ServerApp.ip = "127.0.0.1"
# JupyterLab refuses to start as root, which is how most containers run.
c.ServerApp.allow_root = hasattr(os, "geteuid") and os.geteuid() == 0

# The whole checkout is in reach, so that links from my/ to other folders work; the list on the
# left leaves out what is there for authors. Files that it leaves out still open by a link.
c.ServerApp.root_dir = str(settings.repo_root())
c.ContentsManager.hide_globs = [
    *("__pycache__", "*.pyc", "*.pyo", "*~", "*.egg-info", ".DS_Store"),
    *("lib", "tests", "benchmarks", "docs", "source"),
    *("Makefile", "pyproject.toml", "constraints.txt", "environment.yml", "CONTRIBUTING.md"),
]

# A kernel holds up to 5 GB while its notebook does nothing. Half an hour without a running cell
# is three times the longest exercise; afterwards *Run All* takes seconds, because what was trained
# is kept. A page that is open counts as connected; a running cell is busy and goes on.
c.MappingKernelManager.cull_idle_timeout = 30 * 60
c.MappingKernelManager.cull_interval = 60
c.MappingKernelManager.cull_connected = True
c.MappingKernelManager.cull_busy = False
