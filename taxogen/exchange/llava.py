"""Export: a trained run as a standard Hugging Face checkpoint of LLaVA, which computes what the run computes."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import GenerationConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

from probing.store import MismatchError, cache
from taxogen.exchange import card, likeness, towers, wording
from taxogen.exchange.likeness import Sample
from taxogen.exchange.picture_token import PictureToken, with_picture_token
from taxogen.exchange.projection import EXPRESSED, llava_weights
from taxogen.exchange.requirements import require_expressible
from taxogen.exchange.towers import Tower
from taxogen.models import encoders
from taxogen.models.encoders import Encoder
from taxogen.models.vlm import Vlm
from taxogen.runs.bench import Bench, open_bench
from taxogen.runs.run import Run


@dataclass(frozen=True)
class Exported:
    """A checkpoint that was written.

    Attributes:
        folder: where it is.
        difference: the largest difference between its logits behind a picture and the run's, in units of the largest.
        prompts: template → the text of its question (about the first leaf or hypernym) for the processor; None where no
            text gives the ids of the run's rows.
    """

    folder: Path
    difference: float
    prompts: dict[str, str | None]


def export_llava(run: Run, out: Path, step: int | None = None) -> Exported:
    """Writes a trained run as a checkpoint that `AutoModelForImageTextToText` and `AutoProcessor` load.

    All weights are float32 (those of a language model that computed in bfloat16 are the rounded ones, widened). What
    was written is loaded again, and its logits for questions of the run are compared with the run's own in float32.

    Args:
        run: closed and trained.
        out: the folder of the checkpoint; it must not be there yet.
        step: of the projector; the last by default.

    Raises:
        ValueError: settings have no counterpart in LLaVA; they are named, with those to train another run with.
        MismatchError: the checkpoint does not compute what the run does; or encoder, language model or projector are
            not those of the run.
        FileNotFoundError: the run is not trained.
        OSError: the folder is there already, or the disk cannot hold it.
    """
    if out.exists():
        raise FileExistsError(f"{out} is there already: give another --out, or remove it")
    require_expressible(run)
    chosen: int = run.record["steps"] if step is None else step
    snapshot = run.require_snapshot(chosen)
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        sample, encoder, token = _write(run, snapshot, part)
        difference, prompts = likeness.difference(sample, part, token.id)
        about = card.text(run, encoder, chosen, token, difference, prompts)
        (part / "README.md").write_text(about, encoding="utf-8")
    except BaseException:
        shutil.rmtree(part)
        raise
    part.rename(out)
    return Exported(out, difference, prompts)


@dataclass(frozen=True)
class _Parts:
    """A run with everything loaded that goes into its checkpoint, on the CPU and in float32."""

    bench: Bench
    encoder: Encoder
    tower: Tower


def _write(run: Run, snapshot: Path, folder: Path) -> tuple[Sample, Encoder, PictureToken]:
    """Writes model, processor and generation config; returns what the run computes, its encoder and the image token."""
    parts = _parts(run, snapshot)
    vlm, tower = parts.bench.vlm, parts.tower
    modules = (vlm.model, tower.model)
    size = sum(weight.nbytes for module in modules for weight in module.parameters())
    cache.require_free(folder, size, what=f"the checkpoint {folder}")
    sample = likeness.sample(parts.bench, parts.encoder)
    texts = [segments.text for segments in sample.asked.values()]
    used = {one for row in sample.rows.values() for one in row.ids}
    token = with_picture_token(vlm.lm.tokenizer, len(vlm.embedding.weight), texts, used, folder)
    processor = _processor(vlm, tower, token)
    model = _llava(parts, token)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return sample, parts.encoder, token


def _parts(run: Run, snapshot: Path) -> _Parts:
    config = run.config
    here = replace(run, config=replace(config, model=replace(config.model, device="cpu")))
    encoder, tower = encoders.load(config.model.encoder), towers.tower(config.model.encoder)
    if encoder.identity != run.world["encoder"]:
        raise MismatchError(
            f"{run.path} was trained with another {config.model.encoder} (recorded {run.world['encoder']}, now "
            f"{encoder.identity}); restore it"
        )
    bench = open_bench(here)
    bench.vlm.projector.load_state_dict(load_file(snapshot))
    for weight in bench.vlm.model.parameters():
        weight.data = weight.data.float()
    return _Parts(bench, encoder, tower)


def _processor(vlm: Vlm, tower: Tower, token: PictureToken) -> LlavaProcessor:
    """Image processor, and tokenizer with a template that writes messages as the run's rows are."""
    tokenizer: Any = token.tokenizer
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    start = vlm.lm.start_token_id
    missing = start is not None and tokenizer("").input_ids[:1] != [start]
    first = tokenizer.convert_ids_to_tokens(start) if missing else ""
    own = tokenizer.get_chat_template() if vlm.chat else ""
    tokenizer.chat_template = wording.chat_template(token.text, first, own)
    return LlavaProcessor(
        image_processor=tower.processor,
        tokenizer=tokenizer,
        patch_size=tower.patch,
        vision_feature_select_strategy=tower.strategy,
        chat_template=tokenizer.chat_template,
        image_token=token.text,
        num_additional_image_tokens=tower.special_tokens,
    )


def _llava(parts: _Parts, token: PictureToken) -> LlavaForConditionalGeneration:
    """LLaVA around the run's own modules; only its projector, and a table that needs one more row, are made."""
    vlm, tower, lm = parts.bench.vlm, parts.tower, parts.bench.vlm.model
    table, head = vlm.embedding.weight, cast(nn.Linear, lm.get_output_embeddings()).weight
    rows = max(len(table), token.id + 1)
    vision, text = copy.deepcopy(tower.model.config), copy.deepcopy(lm.config)
    vision.name_or_path = text.name_or_path = ""  # folders of this machine
    text.vocab_size = rows
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=token.id,
        image_seq_length=vlm.projector.tokens[0],
        projector_hidden_act=EXPRESSED[parts.bench.run.config.model.projector],
        vision_feature_layer=tower.layer,
        vision_feature_select_strategy=tower.strategy,
        tie_word_embeddings=head is table,
    )
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    state = llava_weights(vlm.projector.net, vlm.lm.width, parts.bench.features.standardiser)
    inner: Any = model.model
    inner.multi_modal_projector.load_state_dict(state, assign=True)
    inner.vision_tower, inner.language_model = tower.model, lm.base_model
    longer = _longer(table, rows)
    vlm.embedding.weight = longer
    model.lm_head.weight = longer if head is table else _longer(head, rows)
    model.generation_config = _generation(token)
    return model


def _longer(table: Tensor, rows: int) -> nn.Parameter:
    """A table with rows of zeros behind its own, where it has fewer."""
    return nn.Parameter(nn.functional.pad(table.detach(), (0, 0, 0, rows - len(table))), requires_grad=False)


def _generation(token: PictureToken) -> GenerationConfig:
    """Greedy by default; the image token is never said."""
    tokenizer = token.tokenizer
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=[token.id],
    )
