"""Questions: prompts, items, manifests, and the evidence that an ablation takes out of them."""
