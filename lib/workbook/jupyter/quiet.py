"""What the terminal behind JupyterLab shows of its log."""

import logging
import re

TOLD = re.compile(r"is running at:|^\s*(or )?https?://|Control-C|^Shutting down")


class Quiet(logging.Filter):
    """Lets errors through, and what a reader needs: the address, how to stop, that it stops.

    With the option --debug everything is shown.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is shown."""
        asked = logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
        return asked or record.levelno >= logging.ERROR or bool(TOLD.search(record.getMessage()))
