"""`python -m analyses.behaviour`."""

from analyses.behaviour import main

if __name__ == "__main__":
    main()
