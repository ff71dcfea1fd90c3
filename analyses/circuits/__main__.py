"""`python -m analyses.circuits`."""

from analyses.circuits import main

if __name__ == "__main__":
    main()
