"""Edits of activations: erasure, steering, attention knock-out."""
