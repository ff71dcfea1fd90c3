"""The command line of taxogen in one of several processes; the second meets trouble in the seventh step of training."""

import os
import signal
import sys

from taxogen.__main__ import main
from taxogen.models.vlm import Vlm

CALLS = []
answer_loss = Vlm.answer_loss


def troubled(*arguments):
    CALLS.append(arguments)
    if len(CALLS) == 7 and os.environ["TROUBLE"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if len(CALLS) == 7:
        raise ValueError("this row cannot be read")
    return answer_loss(*arguments)


if __name__ == "__main__":
    if os.environ["RANK"] == "1":
        Vlm.answer_loss = troubled
    sys.exit(main())
