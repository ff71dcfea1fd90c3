"""`python -m analyses.patching`."""

from analyses.patching import main

if __name__ == "__main__":
    main()
