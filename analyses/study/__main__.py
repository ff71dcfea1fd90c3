"""`python -m analyses.study`."""

from analyses.study import main

if __name__ == "__main__":
    main()
