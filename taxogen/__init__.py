"""The world and its models: taxonomies, pictures, ablations, small vision-language models, runs."""
