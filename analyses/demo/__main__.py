"""`python -m analyses.demo`."""

from analyses.demo import main

if __name__ == "__main__":
    main()
