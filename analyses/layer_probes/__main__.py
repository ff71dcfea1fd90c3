"""`python -m analyses.layer_probes`."""

from analyses.layer_probes import main

if __name__ == "__main__":
    main()
