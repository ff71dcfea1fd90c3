"""`python -m analyses.lm_knowledge`."""

from analyses.lm_knowledge import main

if __name__ == "__main__":
    main()
