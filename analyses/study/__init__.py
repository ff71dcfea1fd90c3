"""The study of a plan file: results of finished runs as small tables, and figures and answers from these."""
