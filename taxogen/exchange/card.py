"""Card: the README of an exported checkpoint or a pushed run: what it is, made from what, under which licences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from probing.stats import bounds_text
from probing.store import records
from taxogen.exchange.picture_token import PictureToken
from taxogen.models import weights
from taxogen.models.encoders import Encoder
from taxogen.runs.run import Run
from taxogen.stages.sweeping.main_scores import scored
from taxogen.world import pictures

_HOME = "https://arxiv.org/abs/2603.07474"
_CARD = """\
---
library_name: transformers
pipeline_tag: image-text-to-text
tags: [llava, taxoprobe]
---

# {name}

A frozen image encoder, a frozen language model, and a projector between them, of a run of taxoprobe ({home}).
It is in the format of LLaVA and computes what the run computes: for questions of the run about test pictures, logits
behind the picture differ by at most {difference:.1e} of the largest (float32).

    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(FOLDER, backend="pil")  # torchvision resizes otherwise
    model = AutoModelForImageTextToText.from_pretrained(FOLDER)
    inputs = processor(images=picture, text={example!r}, return_tensors="pt")
    processor.decode(model.generate(**inputs, max_new_tokens=5)[0])

Pictures are RGB (upright, transparency over white). These texts are the questions that the run puts, token by token;
the chat template writes messages {chat}.

| template | text |
|---|---|
{prompts}

The image token `{token}` has the id {id}{instead}.

## Made from

| | |
|---|---|
| run | `{config_hash}` (config), `{world}` (world) |
| projector | `{projector}`, {kind}, {origin}{standardised} |
| encoder | {encoder}, revision `{encoder_revision}`: {encoder_licence} |
| language model | {lm}, revision `{lm_revision}`, {init}, trained on in {dtype}: {lm_licence} |

## Training pictures of the run

| source | licence | pictures | credit |
|---|---|---|---|
{pictures}

It was made for research on how words and pictures meet: what its projector has learned is to name these pictures.
"""

_OF_RUN = """\
---
tags: [taxoprobe]
---

# {name}

What a run of taxoprobe ({home}) came to: {subject}.
The frozen models are not in this repository.

    from huggingface_hub import hf_hub_download
    from safetensors.torch import load_file

    load_file(hf_hub_download({repo!r}, {projector!r}))

`run.toml` has every setting: `taxoprobe train --config run.toml` trains it again, where pictures, taxonomy and models
have the hashes in `world.json`. Tables are long, one row per number with its interval and n; each figure is made from
the table beside it.

## Scores

{scores}

## Made from

| | |
|---|---|
| run | `{config_hash}` (config), `{world}` (world) |
{made_from}

## Files

{files}

## Pictures

| source | licence | pictures | credit |
|---|---|---|---|
{pictures}

It was made for research on how words and pictures meet: {limits}
"""
_SCORES = {
    "auroc": "mean AUROC of hypernyms",
    "top1": "the hypernym that is likeliest is true",
    "leaf_naming": "the leaf concept is named among others",
}
_LEARNED = "what its projector has learned is to name these pictures."
_ADOPTED = "nothing was trained."


def text(
    run: Run,
    encoder: Encoder,
    step: int,
    token: PictureToken,
    difference: float,
    prompts: Mapping[str, str | None],
) -> str:
    """The card of a run's checkpoint, in Markdown.

    Args:
        run: that was exported.
        encoder: of the run.
        step: of the projector.
        token: the image token.
        difference: from the run's logits, in units of the largest.
        prompts: template → the text of its question, or None.
    """
    model, lm = run.config.model, run.world["lm"]
    texts = {name: spelled for name, spelled in prompts.items() if spelled is not None}
    return _CARD.format(
        name=run.name,
        home=_HOME,
        difference=difference,
        example=next(iter(texts.values()), token.text),
        chat="in the turns of the language model"
        if run.config.data.chat
        else "as they are, one after the other",
        prompts="\n".join(f"| {name} | {_code(spelled)} |" for name, spelled in prompts.items()),
        token=token.text,
        id=token.id,
        instead=f", which was that of `{token.instead_of}`" if token.instead_of else "",
        config_hash=run.config.hash,
        world=run.world["digest"][:16],
        projector=records.sha256(run.require_snapshot(step))[:16],
        kind=model.projector,
        origin=_origin(run, step),
        standardised="; standardising is in its first layer" if model.standardise else "",
        encoder=model.encoder,
        encoder_revision=encoder.revision,
        encoder_licence=encoder.licence,
        lm=model.lm,
        lm_revision=lm["revision"],
        init=model.init,
        dtype=lm["dtype"],
        lm_licence=weights.licence(model.lm),
        pictures=_pictures(run),
    )


def of_run(run: Run, repo: str, step: int, files: Sequence[str]) -> str:
    """The card of a repository with what a run came to, in Markdown.

    Args:
        run: trained to its end.
        repo: USER/NAME on the hub.
        step: of the projector.
        files: what lies beside the card, as paths in the repository.
    """
    model, lm = run.config.model, run.world["lm"]
    encoder = run.world["encoder"]
    adopted = bool(model.vlm)
    if adopted:
        rows = [f"| model | {model.vlm}, revision `{lm['revision']}`, in {lm['dtype']}: see its model card |"]
    else:
        rows = [
            f"| projector | {model.projector}, {_origin(run, step)} |",
            f"| encoder | {model.encoder}, revision `{encoder['revision']}`: {weights.licence(model.encoder)} |",
            f"| language model | {model.lm}, revision `{lm['revision']}`, {model.init}, in {lm['dtype']}: "
            f"{weights.licence(model.lm)} |",
        ]
    trained = f"the projector between {model.encoder} and {model.lm}, and what was measured of it"
    return _OF_RUN.format(
        name=run.name,
        home=_HOME,
        subject=f"what was measured of {model.vlm}, untrained" if adopted else trained,
        repo=repo,
        projector=next(name for name in files if name.startswith("projector/")),
        config_hash=run.config.hash,
        world=run.world["digest"][:16],
        scores=_scores(run),
        made_from="\n".join(rows),
        files="\n".join(f"- `{name}`" for name in files),
        pictures=_pictures(run, "test" if adopted else "train"),
        limits=_ADOPTED if adopted else _LEARNED,
    )


def _scores(run: Run) -> str:
    """The main scores of a run with their intervals, as a table with a line that says what they are."""
    if not run.file("scores.h5").is_file():
        return f"None: it was not asked yet (`taxoprobe evaluate --run {run.name}`)."
    of = scored(run)
    which = "whose evidence was removed from training" if of.removed else "of the taxonomy"
    lines = ["| of test pictures | score | 95 % interval | chance |", "|---|---|---|---|"]
    for name, one in of.estimates.items():
        numbers = f"{one.value:.3f} | {bounds_text(one.lower, one.upper)} | {of.chance[name]:.3f}"
        lines.append(f"| {_SCORES[name]} | {numbers} |")
    told = (
        f"Intervals are over {len(of.statistics['auroc'].clusters)} leaf concepts, those of the AUROC also over the "
        f"{of.hypernyms} hypernyms {which}; how runs of other seeds differ is not in them."
    )
    return "\n".join([*lines, "", told])


def _origin(run: Run, step: int) -> str:
    imported = run.record.get("prismatic")
    if imported:
        return f"of the prismatic-vlms checkpoint `{imported[:16]}`"
    return f"after {step} steps of training on {run.record['training_items']} questions"


def _code(spelled: str | None) -> str:
    """A text in a cell of a table, line breaks as they are written in Python."""
    if spelled is None:
        return "no text gives the ids of these rows: tokenise its parts one by one"
    return f"`{repr(spelled)[1:-1]}`".replace("|", r"\|")


def _pictures(run: Run, split: str = "train") -> str:
    """The sources of the pictures of a split, a row each, with licence, number and credit."""
    table = pd.read_csv(run.part_of_world("pictures.csv"), dtype=str, keep_default_na=False, na_filter=False)
    credit = pictures.credits().set_index("source")["credit"].to_dict()
    if run.config.data.pictures not in pictures.BUNDLED:
        credit = {}
    counts = table[table["split"] == split].value_counts(["source", "licence"], sort=False).reset_index()
    return "\n".join(
        f"| {source} | {licence or 'not recorded'} | {count} | {credit.get(source, '')} |"
        for source, licence, count in counts.itertuples(index=False)
    )
