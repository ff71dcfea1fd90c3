"""`python -m analyses.picture_maps`."""

from analyses.picture_maps import main

if __name__ == "__main__":
    main()
