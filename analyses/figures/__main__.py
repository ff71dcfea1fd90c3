"""Runs the command: see `analyses.figures`."""

from analyses.figures import main

if __name__ == "__main__":
    main()
