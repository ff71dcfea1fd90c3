"""`python -m analyses.emergence`."""

from analyses.emergence import main

if __name__ == "__main__":
    main()
