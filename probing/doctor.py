"""Command that says whether a model is captured faithfully, or whether a store is whole.

    python -m probing.doctor --model NAME_OR_FOLDER [--gguf FILE]
    python -m probing.doctor --store FOLDER [--rebuild MODULE:FUNCTION]

Reads a Hugging Face model, or every byte of a store. Writes nothing, unless `--rebuild` names a function that
gives (model, batches) as they were given to `capture`: then exactly the bad shards are captured again.
The exit code is 0 when everything is in order and 1 when it is not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from probing.capture.health import damage, rebuild
from probing.hooks.verify import verify
from probing.store.headers import read_header
from probing.store.shard_files import HEADER_FILE, shard_files


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 in order, 1 not."""
    parser = argparse.ArgumentParser(prog="python -m probing.doctor", description=__doc__)
    question = parser.add_mutually_exclusive_group(required=True)
    question.add_argument(
        "--model", help="hub name or folder of a language model, or of one that reads pictures"
    )
    question.add_argument("--store", type=Path, help="folder of an activation store")
    parser.add_argument("--gguf", help="with --model: the GGUF file in the folder")
    parser.add_argument("--rebuild", help="with --store: module:function that gives (model, batches)")
    options = parser.parse_args(argv)
    try:
        if options.store is not None:
            return _store(options.store, options.rebuild)
        report = verify(load(options.model, options.gguf))
    except (OSError, ValueError) as refusal:
        parser.error(str(refusal))
    sys.stdout.write(f"{report}\n")
    return 0 if report.holds else 1


def load(name: str, gguf: str | None = None) -> Any:
    """A causal language model, or one that reads pictures too, by hub name or folder."""
    file = {"gguf_file": gguf} if gguf else {}
    config = AutoConfig.from_pretrained(name, **file)
    causal = type(config) in AutoModelForCausalLM._model_mapping
    kind = AutoModelForCausalLM if causal else AutoModelForImageTextToText
    return kind.from_pretrained(name, **file)


def _store(folder: Path, maker: str | None) -> int:
    bad = damage(folder)
    sys.stdout.write(f"{folder}: {len(shard_files(folder))} shards, {len(bad)} bad files\n")
    for name, reason in bad.items():
        sys.stdout.write(f"RED  {name}  {reason}\n")
    if not bad or HEADER_FILE in bad:  # without a header nothing says what to capture
        return int(bool(bad))
    if maker is None:
        made_by = read_header(folder)["attributes"].get("command")
        how = f"made by: {made_by}" if made_by else "--rebuild module:function, giving (model, batches)"
        sys.stdout.write(f"to make the bad shards again: {how}\n")
        return 1
    module, _, function = maker.partition(":")
    sys.path.insert(0, "")
    rebuilt = rebuild(folder, *getattr(import_module(module), function)())
    sys.stdout.write(f"rebuilt {', '.join(rebuilt)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
