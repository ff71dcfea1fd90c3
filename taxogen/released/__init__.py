"""Vision-language models that somebody released, in the place of a projector that is trained here."""
