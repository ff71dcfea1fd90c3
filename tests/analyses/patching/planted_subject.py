"""The planted circuit as a subject: its prompts in words and pictures, so that a whole grid is run on a known model."""

from types import SimpleNamespace

import planted as circuit
import torch
from transformers import DynamicCache

from analyses.inputs.stimuli import Stimuli
from analyses.inputs.stimuli.pairs import pairs_of
from analyses.inputs.subject import Subject
from analyses.patching.grid import PatchGrid
from analyses.patching.options import Options
from probing.patching import EACH, Alignment, Restart, Rows, attribution, grid, runs
from taxogen.models.rows import IMAGE, Row
from tests.analyses.planted_questions import TAXONOMY

_FRAME = {"hypernym": "kind", "leaf": "called"}


class PlantedSubject(Subject):
    """A subject without a run: the template, answers and rows are those of the planted circuit."""

    @classmethod
    def new(cls):
        model = circuit.planted()
        record = {"manifest_hash": {}}
        run = SimpleNamespace(taxonomy=TAXONOMY, makers=lambda _: {"run": "planted"}, record=record)
        vlm = SimpleNamespace(model=model, dtype=torch.float32)
        return cls(SimpleNamespace(run=run, vlm=vlm), 0)  # pyright: ignore[reportArgumentType]

    @property
    def wording(self):
        return {}

    def template(self, task):
        return _FRAME[task]

    def answer(self, task, name):
        return (circuit.ID[name],)

    def row(self, task, leaf, picture=""):
        ids, slot = circuit.prompt(leaf, _FRAME[task]), circuit.PICTURE if picture else 1
        spans = circuit.spans(_FRAME[task], slot)
        spans["image" if picture else "noun"] = spans.pop("slot")
        ids = (*ids[:2], *((IMAGE,) * slot if picture else ids[2:3]), *ids[3:])
        return Row(leaf, ids, len(ids), spans, circuit.LEAVES.index(leaf) if picture else -1)

    def share_prefix(self, rows):
        """Nothing: the circuit starts anew for every row."""

    def group(self, rows):
        model, pictures = self.bench.vlm.model, rows[0].picture >= 0
        frame = "kind" if circuit.ID["kind"] in rows[0].ids else "called"
        embedded = torch.stack(
            [
                circuit.picture_prompt(model, row.item_id, frame)
                if pictures
                else circuit.embeddings(model, row.ids)
                for row in rows
            ]
        )
        spans = dict(rows[0].spans)
        spans["slot"] = spans.pop("image" if pictures else "noun")
        return Rows(
            lambda: {"inputs_embeds": embedded, "past_key_values": DynamicCache(config=model.config)}, spans
        )


def planted_grid(folder, count=8, **options):
    """A grid of the planted circuit over `count` pairs."""
    wanted = Options(**options)
    subject = PlantedSubject.new()
    alignments = {span: Alignment(wanted.slot) if span == "slot" else EACH for span in wanted.spans}
    cells = grid(
        subject.bench.vlm.model, wanted.sites, wanted.spans, heads=wanted.heads, window=wanted.window,
        cumulative=wanted.cumulative,
    )  # fmt: skip
    pairs = pairs_of(
        TAXONOMY,
        {leaf: circuit.ID[leaf] for leaf in TAXONOMY.leaves},
        TAXONOMY.hypernyms,
        count,
        wanted.seed,
        noising=wanted.mode == "noising",
    )
    pictures = {leaf: f"{leaf}.png" for leaf in TAXONOMY.leaves}
    return PatchGrid(Stimuli(subject, pictures, alignments), cells, wanted, pairs, folder)


def no_engine(monkeypatch):
    """From now on every forward pass of the patching engine is a failure."""

    def refuse(*_, **__):
        raise AssertionError("a forward pass was run")

    monkeypatch.setattr(runs, "forward", refuse)
    monkeypatch.setattr(attribution, "forward", refuse)
    monkeypatch.setattr(Restart, "run", refuse)
