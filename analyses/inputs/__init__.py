"""What questions are asked of: models with their prompts, rows of stores, conditions, answers."""
