"""Conversion of a GGUF file to a folder as transformers saves models: weights unpacked, all of it checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

from probing.store import MismatchError, cache
from taxogen.models import weights
from taxogen.models.lms import declared, reading, vocabulary
from taxogen.models.lms.gguf_file import GgufFile, read

_LINK = "model.gguf"  # transformers knows the format by the end of the name
_ADVICE = "Get another file, or give the model's folder as save_pretrained wrote it"


def convert(path: Path, folder: Path) -> None:
    """Writes a GGUF model and its tokenizer to `folder`, if it is whole and reads English better than noise.

    Each weight is stored in the smallest number type that holds it exactly: float32 where it was packed, else that of
    the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no whole GGUF file of a known architecture, declares what is not read, its tokenizer loses
            texts, or the model cannot read or reads like noise.
        MismatchError: weights are missing or have no place in the model, or vocabulary and embeddings differ.
        OSError: the disk is too full.
    """
    file = read(path)
    cache.require_free(folder.parent, 4 * file.size(), what=f"the language model {path}")
    with _alone(path) as place:
        tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=_LINK)
        config = AutoConfig.from_pretrained(place, gguf_file=_LINK)
    declared.complete(config, file)
    vocabulary.require_whole(tokenizer, file)
    tokenizer, start, other = vocabulary.started(tokenizer, file)
    with _alone(path) as place:
        model, report = _unpacked(place, config)
    _require_all_weights(model, report, file)
    try:
        result = reading.read(model, tokenizer, start, other)
    except Exception as error:  # settings that do not fit each other fail anywhere in a model's own code
        reason = " ".join(str(error).split())
        raise ValueError(file.refusal(f"it cannot read a sentence ({reason}). {_ADVICE}")) from error
    if result.is_noise:
        raise ValueError(
            file.refusal(
                f"it reads like noise: {result}; below {reading.WORD_FREQUENCIES:.2f} a character and half as much "
                f"the second time is what a whole model of English has. {_ADVICE}"
            )
        )
    for weight in model.parameters():
        weight.data = _smallest(weight.data)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    result.write(folder, architecture=file.architecture, weights=file.size())


@contextmanager
def _alone(path: Path) -> Iterator[str]:
    """A folder with a link to the file and nothing beside it: transformers would read neighbours, such as a template.

    Raises:
        ValueError: whatever transformers raises within.
    """
    with TemporaryDirectory() as folder, weights.without_bars():
        (Path(folder) / _LINK).symlink_to(path.resolve())
        try:
            yield folder
        except Exception as error:  # readers raise errors of any kind over what they did not expect
            reason = " ".join(str(error).split())
            raise ValueError(
                f"The language model {str(path)!r} was asked for; transformers cannot read it ({reason}). {_ADVICE}"
            ) from error


def _unpacked(folder: str, config: Any) -> tuple[Any, dict[str, Any]]:
    """The model of a GGUF file in float32, and what transformers reports about its tensors."""
    with weights.without_load_report():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=_LINK,
            config=config,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    model, report = loaded
    # transformers refuses to save a model that it believes to be quantized still.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    return model.eval(), report


def _require_all_weights(model: Any, report: dict[str, Any], file: GgufFile) -> None:
    """Refuses a file whose tensors are not exactly those of the model: transformers fills and drops them in silence."""
    faults = {
        "missing": report["missing_keys"],
        "of another shape": [key for key, *_ in report["mismatched_keys"]],
    }
    for fault, tensors in faults.items():
        if tensors:
            raise MismatchError(
                file.refusal(
                    f"its tensors are not those of the {file.architecture} that it declares ({fault}: {len(tensors)}, "
                    f"first {min(tensors)!r}). {_ADVICE}"
                )
            )
    twice = ("output.weight",) if model.config.tie_word_embeddings else ()
    stored, held = file.size(without=twice), sum(weight.numel() for weight in model.parameters())
    if stored != held:
        raise MismatchError(
            file.refusal(
                f"it holds {stored:,} weights and transformers' {type(model).__name__} {held:,}: some of them would be "
                f"left out. {_ADVICE}"
            )
        )


def _smallest(values: torch.Tensor) -> torch.Tensor:
    """The same numbers in the smallest number type that holds each of them exactly."""
    for dtype in (torch.bfloat16, torch.float16):
        narrowed = values.to(dtype)
        if torch.equal(narrowed.float(), values):
            return narrowed
    return values
