"""`python -m tests.calibration`: writes docs/statistics.md from what `make calibration` measured."""

from tests.calibration.page import PAGE, page

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
