"""What the study published: its released answers, as they are read from disk, and as scores."""
