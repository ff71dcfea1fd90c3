"""`python -m analyses.interchange`."""

from analyses.interchange import main

if __name__ == "__main__":
    main()
