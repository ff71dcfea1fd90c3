"""`python -m analyses.geometry`."""

from analyses.geometry import main

if __name__ == "__main__":
    main()
