"""`python -m analyses.erasure`."""

from analyses.erasure import main

if __name__ == "__main__":
    main()
