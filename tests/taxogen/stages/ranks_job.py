"""The command line of taxogen in one of several processes: the first comes late, or the last one's training breaks."""

import os
import signal
import sys
import time

from taxogen.__main__ import main
from taxogen.models.vlm import Vlm

CALLS = []
answer_loss = Vlm.answer_loss


def troubled(*arguments):
    CALLS.append(arguments)
    if len(CALLS) == 2 and os.environ["TROUBLE"] == "stopped":
        raise KeyboardInterrupt
    if len(CALLS) == 7 and os.environ["TROUBLE"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if len(CALLS) == 7:
        raise ValueError("this row cannot be read")
    return answer_loss(*arguments)


if __name__ == "__main__":
    if os.environ["TROUBLE"] == "late":
        time.sleep(3 * (os.environ["RANK"] == "0"))
    elif int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
        Vlm.answer_loss = troubled
    sys.exit(main())
