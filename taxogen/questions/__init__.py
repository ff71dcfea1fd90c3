"""Questions: prompts, items, manifests, and what an ablation takes out of them."""
