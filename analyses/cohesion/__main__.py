"""`python -m analyses.cohesion`."""

from analyses.cohesion import main

if __name__ == "__main__":
    main()
