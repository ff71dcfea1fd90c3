"""`python -m analyses.pooling`."""

from analyses.pooling import main

if __name__ == "__main__":
    main()
