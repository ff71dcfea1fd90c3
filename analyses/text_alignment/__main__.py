"""`python -m analyses.text_alignment`."""

from analyses.text_alignment import main

if __name__ == "__main__":
    main()
