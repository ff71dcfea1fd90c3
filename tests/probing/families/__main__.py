"""`python -m tests.probing.families`: makes docs/families.md, a few minutes on one thread."""

from transformers.utils import logging

from tests.probing.families.models import KINDS
from tests.probing.families.table import PAGE, names, page, row

if __name__ == "__main__":
    logging.set_verbosity_error()
    PAGE.write_text(page([row(kind, name) for kind in KINDS for name in names(kind)]), encoding="utf-8")
    print(f"wrote {PAGE}")
