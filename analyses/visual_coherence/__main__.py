"""`python -m analyses.visual_coherence`."""

from analyses.visual_coherence import main

if __name__ == "__main__":
    main()
