"""Stream one file of a package index to standard output, found with the user's pip settings.

Run as a script: `pip_stream.py [pip options] PACKAGE FILENAME`. `pip download` cannot be used:
to learn the metadata of a source archive it executes the archive's `setup.py`. This takes from pip
what finds and carries the bytes (indexes, mirrors, find-links, proxies, certificates, credentials)
and stops there: nothing is unpacked. pip calls these parts internal, so this file holds all that
the workbook uses of them; tried with pip 23.2, 24.0, 24.3, 25.0, 25.3, 26.0 and 26.3.
"""

import os
import shutil
import sys

from pip._internal.commands.download import DownloadCommand
from pip._internal.exceptions import CommandError


class StreamCommand(DownloadCommand):
    """`pip download` that hands the bytes on instead of preparing them."""

    def run(self, options, args):
        """Write the file named by `args` = (package, filename) to standard output."""
        package, filename = args
        session = self.get_default_session(options)
        finder = self._build_package_finder(options, session, ignore_requires_python=True)
        links = [found.link for found in finder.find_all_candidates(package)]
        link = next((link for link in links if link.filename == filename), None)
        if link is None:
            raise CommandError(f"No index offers {filename}.")
        headers = {"Accept-Encoding": "identity"}  # the pinned bytes, not compressed on the way
        response = session.get(link.url_without_fragment, headers=headers, stream=True)
        response.raise_for_status()
        shutil.copyfileobj(response.raw, BYTES)
        return 0


if __name__ == "__main__":
    BYTES = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what pip prints goes to standard error, so the bytes stay clean
    sys.exit(StreamCommand("download", "Stream a file.").main(sys.argv[1:]))
