"""Models: frozen encoders and language models, the projector that is learned between them."""
