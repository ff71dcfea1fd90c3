"""`python -m analyses.lens`."""

from analyses.lens import main

if __name__ == "__main__":
    main()
