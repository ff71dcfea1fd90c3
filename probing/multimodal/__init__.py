"""Vision-language models that are there already: spans of their pictures, and their text stack by itself."""

from probing.multimodal.spans import picture_mark, picture_spans, picture_token
from probing.multimodal.text_stack import TextStack, handed, stacked

__all__ = ["TextStack", "handed", "picture_mark", "picture_spans", "picture_token", "stacked"]
