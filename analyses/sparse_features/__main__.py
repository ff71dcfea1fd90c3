"""`python -m analyses.sparse_features`."""

from analyses.sparse_features import main

if __name__ == "__main__":
    main()
