"""`python -m analyses.knockout`."""

from analyses.knockout import main

if __name__ == "__main__":
    main()
