"""`python -m analyses.published`."""

from analyses.published import main

if __name__ == "__main__":
    main()
