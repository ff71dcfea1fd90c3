"""Hooks: `record` and `edit`, the only two ways to touch a forward pass, and the layouts that name its sites."""

from probing.hooks.passes import Edit, Take, edit, record, run

__all__ = ["Edit", "Take", "edit", "record", "run"]
