"""`python -m analyses.capture`."""

from analyses.capture import main

if __name__ == "__main__":
    main()
