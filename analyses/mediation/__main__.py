"""`python -m analyses.mediation`."""

from analyses.mediation import main

if __name__ == "__main__":
    main()
