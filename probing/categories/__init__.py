"""Geometry of categories: cohesion, taxonomic distance, massive activations."""
