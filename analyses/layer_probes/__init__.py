"""Which layers tell the hypernym: probes on held-out leaf concepts, for picture rows, text rows and across.

    python -m analyses.layer_probes --run RUN [--run RUN2 …] [--against RUN …] [--step …] [--span …] [--probe …]

Reads: the activation stores, the taxonomy and the encoder features of each run.
Writes: analyses/layer_probes/ in each run: layer_probes.parquet and .csv, directions.h5, figures (png and svg); with
--against also contrasts.parquet and .csv. Another probe, target, split or choice of sites has a folder of its own,
such as analyses/layer_probes-leaf-ungrouped/.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses.frame import drawing, tables
from analyses.inputs.categories import held_out_hypernyms
from analyses.layer_probes import digest, figures
from analyses.layer_probes.design import SPLITS, TARGETS, Options
from analyses.layer_probes.layers import PROBES, LayerProbes, contrasts, probe_layers
from analyses.layer_probes.table import COLUMNS
from probing.probes.transfer import TRANSFORMS
from probing.store import ActivationStore, files
from taxogen.models.features import features
from taxogen.runs.run import Run
from taxogen.world import pictures
from taxogen.world.taxonomy import Taxonomy

DEFAULT = Options()


def compute(
    images: Mapping[int, ActivationStore],
    text: ActivationStore | None,
    taxonomy: Taxonomy,
    options: Options = DEFAULT,
    encoder: Mapping[str, np.ndarray] | None = None,
    source_of: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Long table of probe estimates; `images` maps a step of training to the picture rows captured there.

    Modality "image" and "text" are probes within a modality; "text→image" and "image→text" are probes of one on
    held-out leaves of the other. Chance AUROC is .5; `control_auroc` is the floor, the AUROC of the tested
    modality's own probes the ceiling. Step −1 means that no training step touches the rows; layer −1 is what enters
    the language model, layer −2 what the encoder says of a picture (`encoder`: picture → features). `source_of` maps
    a picture to its source, for the split `source`.
    """
    return probe_layers(images, text, taxonomy, options, encoder, source_of).table


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """The figures of a table, by name."""
    return figures.draw(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Probes the runs, prints a summary of each, and writes tables and figures into their folders."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        runs = [Run.open(path).with_captures(args.captures) for path in args.run]
        partners = [Run.open(path).with_captures(args.captures) for path in args.against or ()]
        if partners and len(partners) != len(runs):
            raise ValueError(
                f"--against names {len(partners)} partners for {len(runs)} runs; name one for each"
            )
        probed = [_probe(run, args, held_out_hypernyms(run)) for run in runs]
        for run, found in zip(runs, probed):
            _write(run.folder("analyses", folder_name(args)), run.name, found)
        if partners:
            # Seen and held-out are what they are in the runs themselves, so that both sides mean the same hypernyms.
            others = [_probe(other, args, held_out_hypernyms(run)) for run, other in zip(runs, partners)]
            table = _contrast(runs, partners, contrasts(probed, others, args.seed), args)
            print(digest.contrast_lines(table))
    except (ValueError, KeyError, FileNotFoundError) as refusal:
        parser.error(str(refusal.args[0]))


def _contrast(
    runs: Sequence[Run], partners: Sequence[Run], table: pd.DataFrame, args: argparse.Namespace
) -> pd.DataFrame:
    """The table of contrasts with all columns, written beside the table of the first run."""
    name = f"{', '.join(run.name for run in runs)} minus {', '.join(run.name for run in partners)}"
    table = table.assign(run=name, analysis="layer_probes", seed=args.seed, split=args.split)
    table = table[list(COLUMNS)]
    tables.save(table, runs[0].folder("analyses", folder_name(args)), "contrasts")
    return table


def folder_name(args: argparse.Namespace) -> str:
    """Where results go: beside those of the default question, not over them, when another one is asked."""
    parts = [args.target, args.split, args.probe, args.captures]
    defaults = [DEFAULT.target, DEFAULT.split, DEFAULT.probe, ""]
    other = [part for part, default in zip(parts, defaults) if part != default]
    other += ["all-sites"] if args.all_sites else ["sites"] if args.site else []
    return "-".join(["layer_probes", *other])


def _probe(run: Run, args: argparse.Namespace, held_out: tuple[str, ...]) -> LayerProbes:
    """The probes of one run at the asked steps (default: all that were captured)."""
    asked = [run.steps[-1] if step == "last" else int(step) for step in args.step or ()] if run.steps else ()
    images = {step: run.store(step) for step in asked or run.steps}
    if not images:
        raise FileNotFoundError(
            f"{run.path} has no captured step; `python -m taxogen train --run {run.path}` captures"
        )
    text = run.store(None, "text") if run.captured(None) else None
    sites = tuple(args.site) if args.site else None
    if args.all_sites:
        sites = every_site(next(iter(images.values())))
    names = ("probe", "target", "split", "folds", "controls", "shuffled", "draws", "seed", "device", "code")
    options = Options(
        **{name: getattr(args, name) for name in names},
        sites=sites,
        spans=tuple(args.span) if args.span else None,
        transforms=tuple(args.transfer),
        held_out=held_out,
    )
    shown = pictures.load(run.config.data.pictures).table
    source_of = dict(zip(shown["picture"], shown["style_group"]))
    found = probe_layers(images, text, run.taxonomy, options, encoder_features(run), source_of)
    return replace(found, table=found.table.assign(run=run.name))


def every_site(store: ActivationStore) -> tuple[str, ...]:
    """All sites of a store, `attn.hook_z` head by head; attention patterns hold no features and are left out."""
    found: list[str] = []
    for site in store.sites:
        if site.endswith("attn.hook_z"):
            heads = store.read(site, store.spans[0], [0]).shape[1]
            found += [f"{site}#{head}" for head in range(heads)]
        elif not site.endswith("hook_pattern"):
            found.append(site)
    return tuple(found)


def encoder_features(run: Run) -> dict[str, np.ndarray]:
    """What the run's encoder says of each captured picture, from the cache."""
    names = sorted({item.picture for item in run.manifest("capture").items if item.picture})
    model = run.config.model
    values = features(pictures.load(run.config.data.pictures), model.encoder, names, model.encoder_tokens)
    return dict(zip(names, values))


def save_directions(found: LayerProbes, path: Path, run: str) -> None:
    """Writes modality/step/span/site → directions [targets, d], unit length in raw activations; for patching, steering.

    Text rows stand under the step "none".
    """

    def write(part: Path) -> None:
        with h5py.File(part, "w") as file:
            file.attrs.update(
                run=run, targets=list(found.targets), what="mean over folds of the probes' unit directions"
            )
            for (step, span, modality, site), values in found.directions.items():
                name = f"{modality}/{'none' if step < 0 else step}/{span}/{site}"
                file.create_dataset(name, data=values.T.astype(np.float32))

    files.write_whole(path, write)


def _write(folder: Path, run: str, found: LayerProbes) -> None:
    tables.save(found.table, folder, "layer_probes")
    save_directions(found, folder / "directions.h5", run)
    for name, figure in draw(found.table).items():
        drawing.save(figure, folder, name)
    print(digest.lines(found.table), *found.undefined[:3], sep="\n")
    print(f"Table, directions and figures: {folder}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analyses.layer_probes", description="Which layers tell the hypernym."
    )
    parser.add_argument("--run", action="append", required=True, help="a run directory; may be given again")
    parser.add_argument("--against", action="append", help="a run to contrast with, one for each --run")
    parser.add_argument("--step", action="append", help="a captured step, or last (default: all)")
    parser.add_argument("--span", action="append", help="slot, cue or last (default: all)")
    sites = parser.add_mutually_exclusive_group()
    sites.add_argument("--site", action="append", help="a captured site (default: the residual stream)")
    sites.add_argument("--all-sites", action="store_true", help="every captured site, heads one by one")
    parser.add_argument("--target", choices=TARGETS, default=DEFAULT.target)
    parser.add_argument("--probe", choices=sorted(PROBES), default=DEFAULT.probe)
    parser.add_argument("--split", choices=SPLITS, default=DEFAULT.split, help="ungrouped leaks by design")
    parser.add_argument("--captures", default="", help="the name of captures that were made later")
    parser.add_argument("--transfer", nargs="*", choices=TRANSFORMS, default=list(DEFAULT.transforms))
    parser.add_argument("--folds", type=int, default=DEFAULT.folds)
    parser.add_argument(
        "--controls", type=int, default=DEFAULT.controls, help="control tasks; 19 or more give p"
    )
    parser.add_argument(
        "--shuffled", type=int, default=DEFAULT.shuffled, help="draws of labels over single rows"
    )
    parser.add_argument(
        "--draws", type=int, default=DEFAULT.draws, help="of the bootstrap over leaf concepts"
    )
    parser.add_argument("--code", action="store_true", help="also the minimum description length (slow)")
    parser.add_argument("--device", default=DEFAULT.device, help="cpu, or a torch device such as cuda")
    parser.add_argument("--seed", type=int, default=DEFAULT.seed)
    return parser
