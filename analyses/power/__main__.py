"""`python -m analyses.power`."""

from analyses.power import main

if __name__ == "__main__":
    main()
