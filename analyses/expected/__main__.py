"""`python -m analyses.expected`."""

from analyses.expected import main

if __name__ == "__main__":
    main()
