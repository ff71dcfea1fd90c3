"""The command line of patching, on toy runs."""

from analyses import patching

QUICK = ("--pairs", "6", "--draws", "50")


def patch(run, *more):
    patching.main(["--run", str(run.path), *QUICK, *more])
