"""`python -m analyses`: the questions, one line each."""

from analyses.frame.console import question_listing

if __name__ == "__main__":
    print(question_listing("python -m analyses.QUESTION"))
