"""Dictionaries as sparsify and SAELens write them, with weights drawn at random or trained for a moment."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file


def drawn(width=12, features=24, seed=0):
    """Weights under the names of SAELens."""
    rng = np.random.default_rng(seed)
    shapes = {"W_enc": (width, features), "b_enc": features, "W_dec": (features, width), "b_dec": width}
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    return {name: torch.tensor(one, dtype=torch.float32) for name, one in weights.items()}


def write_sae_lens(
    folder: Path, weights=None, site="blocks.1.hook_resid_post", older=False, **config
) -> Path:
    """A dictionary in the layout of SAELens; `older`: with the hook point as files before version 6 have it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = weights or drawn()
    sizes = {
        "d_in": len(weights["b_dec"]),
        "d_sae": len(weights["W_dec"]),
        "dtype": "float32",
        "device": "cpu",
    }
    about = (
        {"hook_point": site} if older else {"metadata": {"hook_name": site, "sae_lens_version": "6.54.12"}}
    )
    text = json.dumps(
        {"architecture": "standard", "normalize_activations": "none", **sizes, **about, **config}
    )
    (folder / "cfg.json").write_text(text, encoding="utf-8")
    save_file(weights, folder / "sae_weights.safetensors")
    return folder


def write_sparsify(folder: Path, weights=None, k=4, **config) -> Path:
    """A dictionary in the layout of sparsify; the folder has the name of the hook point."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = weights or drawn()
    text = json.dumps({"activation": "topk", "k": k, "d_in": len(weights["b_dec"]), **config})
    (folder / "cfg.json").write_text(text, encoding="utf-8")
    names = {"encoder.bias": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
    tensors = {name: weights[own].contiguous() for name, own in names.items()}
    save_file({**tensors, "encoder.weight": weights["W_enc"].T.contiguous()}, folder / "sae.safetensors")
    return folder


def trained(x: np.ndarray, features=32, k=4, steps=150, seed=0):
    """Weights of a dictionary with the k largest features, trained on some states."""
    torch.manual_seed(seed)
    states = torch.tensor(x, dtype=torch.float32)
    decoder = torch.nn.functional.normalize(torch.randn(features, x.shape[1]), dim=1)
    weights = {"W_enc": decoder.T.clone(), "b_enc": torch.zeros(features), "W_dec": decoder}
    weights = {name: one.requires_grad_() for name, one in {**weights, "b_dec": states.mean(0)}.items()}
    adam = torch.optim.Adam(weights.values(), lr=0.02)
    for _ in range(steps):
        before = torch.relu((states - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"])
        best = before.topk(k, dim=1)
        active = torch.zeros_like(before).scatter(1, best.indices, best.values)
        loss = ((active @ weights["W_dec"] + weights["b_dec"] - states) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return {name: one.detach() for name, one in weights.items()}
