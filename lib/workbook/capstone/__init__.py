"""From one's own rows to a compared, tuned and saved model: notebook 12, and `workbook tune`.

`reading` reads the file, `project` makes a task of it, `candidates` are compared by `run`, and
`saving` and `report` write the folder, with which `using` answers rows and chats.
"""

from .run import Options, Run, tune
from .using import Chat, chat, predict

__all__ = ["Chat", "Options", "Run", "chat", "predict", "tune"]
