"""Activation stores on disk, and files that are either whole or not there."""

from probing.store.reading import INDEX_FILE, ActivationStore, CorruptShardError, MismatchError

__all__ = ["INDEX_FILE", "ActivationStore", "CorruptShardError", "MismatchError"]
