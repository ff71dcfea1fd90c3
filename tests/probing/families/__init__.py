"""Every family of models that transformers can build tiny here: whether its states are captured right, or refused."""
