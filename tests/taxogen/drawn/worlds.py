"""Drawn worlds: random changes of pictures, taxonomy, models and cache around a finished or an interrupted run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image

from tests.taxogen.drawn.scene import command, contents, differing

PICTURES, LM, ENCODER, TAXONOMY = Path("pictures"), Path("lm"), Path("encoder"), Path("taxonomy.csv")
Change = Callable[[Generator], str]
NO_NUMBERS = ("run.json", "made.json", "analyses", "captures-extra", "projector/made.json")


def one(rng: Generator, things: Sequence[Any]) -> Any:
    """One of some things, drawn."""
    return things[int(rng.integers(len(things)))]


def flip_bit(rng: Generator, path: Path) -> str:
    """Flips a drawn bit of a file; returns where."""
    if not path.is_file() or not path.stat().st_size:
        return f"nothing in {path} to flip"
    content = bytearray(path.read_bytes())
    place, bit = int(rng.integers(len(content))), int(rng.integers(8))
    content[place] ^= 1 << bit
    path.write_bytes(bytes(content))
    return f"bit {bit} of byte {place} of {path} flipped"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _two(rng: Generator, things: list) -> list:
    return [things[int(at)] for at in rng.permutation(len(things))[:2]]


def _noise(rng: Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 255, (14, 14, 3), dtype=np.uint8))


def _add_picture(rng: Generator) -> str:
    path = one(rng, sorted(PICTURES.iterdir())) / f"a{rng.integers(100)}.png"
    _noise(rng).save(path)
    return f"{path} added"


def _delete_picture(rng: Generator) -> str:
    path = one(rng, _files(PICTURES))
    path.unlink()
    return f"{path} deleted"


def _swap_pictures(rng: Generator) -> str:
    first, second = _two(rng, _files(PICTURES))
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    return f"{first} and {second} swapped"


def _replace_picture(rng: Generator) -> str:
    path = one(rng, _files(PICTURES))
    _noise(rng).save(path)
    return f"{path} redrawn"


def _rename_picture(rng: Generator) -> str:
    path = one(rng, _files(PICTURES))
    path.rename(path.with_name("renamed.png"))
    return f"{path} renamed"


def _rename_leaf(rng: Generator) -> str:
    leaf = one(rng, sorted(PICTURES.iterdir()))
    leaf.rename(leaf.with_name("raven"))
    return f"{leaf} renamed to raven"


def _delete_leaf(rng: Generator) -> str:
    leaf = one(rng, sorted(PICTURES.iterdir()))
    shutil.rmtree(leaf)
    return f"{leaf} deleted"


def _flip_picture(rng: Generator) -> str:
    return flip_bit(rng, one(rng, _files(PICTURES)))


def _empty_picture(rng: Generator) -> str:
    path = one(rng, _files(PICTURES))
    path.write_bytes(b"")
    return f"{path} emptied"


def _link_picture(rng: Generator) -> str:
    path, target = _two(rng, _files(PICTURES))
    path.unlink()
    path.symlink_to(target.resolve() if rng.random() < 0.7 else Path("/nowhere.png"))
    return f"{path} is a link to {path.readlink().name}"


def _rows(change: Callable[[Generator, list[str]], list[str]]) -> Change:
    def changed(rng: Generator) -> str:
        if not TAXONOMY.exists():
            return "no taxonomy to change"
        header, *rows = TAXONOMY.read_text(errors="replace").splitlines()
        after = change(rng, rows)
        TAXONOMY.write_text("\n".join([header, *after]) + "\n")
        lost, new = [row for row in rows if row not in after], [row for row in after if row not in rows]
        return f"taxonomy: {change.__name__.strip('_')}: {lost} → {new}"

    return changed


def _add_row(rng: Generator, rows: list[str]) -> list[str]:
    return [*rows, one(rng, ["crow,fruit", "raven,bird", "owl,animal", "tomato,bird"])]


def _remove_row(rng: Generator, rows: list[str]) -> list[str]:
    at = int(rng.integers(len(rows)))
    return rows[:at] + rows[at + 1 :]


def _move_row(rng: Generator, rows: list[str]) -> list[str]:
    at = int(rng.integers(len(rows)))
    other = one(rng, ["bird", "fruit", "vegetable"])
    return [*rows[:at], f"{rows[at].partition(',')[0]},{other}", *rows[at + 1 :]]


def _duplicate_row(rng: Generator, rows: list[str]) -> list[str]:
    return [*rows, one(rng, rows)]


def _reorder_rows(rng: Generator, rows: list[str]) -> list[str]:
    return [rows[int(at)] for at in rng.permutation(len(rows))]


def _flip_taxonomy(rng: Generator) -> str:
    return flip_bit(rng, TAXONOMY)


def _delete_taxonomy(rng: Generator) -> str:
    TAXONOMY.unlink(missing_ok=True)
    return "taxonomy deleted"


SETTINGS = {
    LM: {
        "num_hidden_layers": (1, 3, 4),
        "rope_theta": (500.0, 20000.0),
        "rope_parameters": ({"rope_theta": 300.0, "rope_type": "default"},),
        "rms_norm_eps": (1e-2, 1e-5),
        "hidden_act": ("gelu", "relu"),
        "num_attention_heads": (2, 8),
        "num_key_value_heads": (1, 4),
        "vocab_size": (12, 64),
        "tie_word_embeddings": (False,),
        "initializer_range": (0.3,),
        "max_position_embeddings": (64, 4096),
        "attention_bias": (True,),
        "head_dim": (4, 16),
        "eos_token_id": (1,),
        "use_cache": (False,),
        "model_type": ("mistral", "qwen2"),
    },
    ENCODER: {
        "num_hidden_layers": (1, 3),
        "num_attention_heads": (1, 4),
        "hidden_act": ("relu",),
        "layer_norm_eps": (0.1,),
        "patch_size": (2, 14),
        "image_size": (28,),
        "layerscale_value": (0.5,),
        "use_swiglu_ffn": (True,),
        "qkv_bias": (False,),
        "mlp_ratio": (2,),
    },
    ENCODER / "preprocessor_config.json": {
        "image_mean": ([0.4, 0.5, 0.5],),
        "image_std": ([0.4, 0.5, 0.5],),
        "resample": (0, 3),
        "do_normalize": (False,),
        "do_rescale": (False,),
        "rescale_factor": (0.01,),
        "size": ({"height": 28, "width": 28}, {"height": 7, "width": 7}),
        "do_resize": (False,),
    },
}
"""Folder or file of JSON → key → values that it is given."""


def _setting(place: Path) -> Change:
    def changed(rng: Generator) -> str:
        path = place if place.suffix else place / "config.json"
        if not path.exists():
            return f"no {path} to change"
        key = one(rng, list(SETTINGS[place]))
        new = one(rng, SETTINGS[place][key])
        content = json.loads(path.read_text())
        old, content[key] = content.get(key), new
        path.write_text(json.dumps(content))
        return f"{path}: {key} {old!r} → {new!r}"

    return changed


def _flip_model(folder: Path) -> Change:
    def changed(rng: Generator) -> str:
        return flip_bit(rng, folder / "model.safetensors")

    return changed


def _flip_tokenizer(rng: Generator) -> str:
    return flip_bit(rng, LM / "tokenizer.json")


def _flip_small(rng: Generator) -> str:
    names = [*LM.glob("*.json"), *ENCODER.glob("*.json")]
    return flip_bit(rng, one(rng, sorted(names)))


def _delete_of_model(rng: Generator) -> str:
    path = one(rng, [*_files(LM), *_files(ENCODER)])
    path.unlink()
    return f"{path} deleted"


def _scale_weight(folder: Path) -> Change:
    def changed(rng: Generator) -> str:
        path = folder / "model.safetensors"
        if not path.exists():
            return f"no {path} to change"
        content = bytearray(path.read_bytes())
        place = len(content) - 4 * int(rng.integers(1, 200))
        content[place : place + 4] = np.float32(rng.normal()).tobytes()
        path.write_bytes(bytes(content))
        return f"a weight of {path} at byte {place} drawn anew"

    return changed


WORLD: tuple[Change, ...] = (
    *(_add_picture, _delete_picture, _swap_pictures, _replace_picture, _rename_picture, _rename_leaf),
    *(_delete_leaf, _flip_picture, _empty_picture, _link_picture, _flip_taxonomy, _delete_taxonomy),
    *map(_rows, (_add_row, _remove_row, _move_row, _duplicate_row, _reorder_rows)),
)
MODELS: tuple[Change, ...] = (
    *map(_setting, (LM, LM, *SETTINGS)),
    *map(_flip_model, (LM, ENCODER)),
    *map(_scale_weight, (LM, ENCODER)),
    *(_flip_tokenizer, _flip_small, _delete_of_model),
)


def _cache_emptied(rng: Generator) -> str:
    shutil.rmtree("cache")
    return "cache emptied"


def _cache_flipped(rng: Generator) -> str:
    return flip_bit(rng, one(rng, sorted(Path("cache").rglob("*.h5"))))


def _cache_cut(rng: Generator) -> str:
    path = one(rng, sorted(Path("cache").rglob("*.h5")))
    path.write_bytes(path.read_bytes()[: int(rng.integers(path.stat().st_size))])
    return f"{path} cut"


def change(rng: Generator) -> list[str]:
    """One to three drawn changes of the scene that is the working directory, in words."""
    kinds = [WORLD if rng.random() < 0.5 else MODELS for _ in range(int(rng.integers(1, 4)))]
    words = [one(rng, kind)(rng) for kind in kinds]
    if rng.random() < 0.7:
        words.append(one(rng, [_cache_emptied, _cache_emptied, _cache_flipped, _cache_cut])(rng))
    return words


def names(words: list[str]) -> set[str]:
    """Names of what changes mention, of which a refusal has one: files, leaves, settings, the model."""
    text = re.sub("[',:\\[\\]]", " ", " ".join(words))
    models = {"lm/": "language model", "encoder/": "encoder"}
    own = {part.removeprefix("pictures/") for part in text.split() if len(part) > 2}
    return own | {said for folder, said in models.items() if folder in text}


def judged(number: int, before: Mapping[str, dict[str, object]]) -> tuple[list[str], str]:
    """The changes of a drawn world, and what became of the run in it: `right`, `refused: …` or `WRONG: …`."""
    rng = np.random.default_rng([12, 1, number])
    words, interrupted = change(rng), number % 3 == 2
    run = "killed/run" if interrupted else "run"
    if not interrupted:
        for name in ("scores.h5", "baselines.h5"):
            Path(run, name).unlink()
    answer = command("train", "--run", run) if interrupted else command("evaluate", "--run", run)
    if interrupted and answer.code == 0:
        answer = command("evaluate", "--run", run)
    numbers = {name: content for name, content in before["run"].items() if not name.startswith(NO_NUMBERS)}
    now = contents(Path(run))
    changed = [name for name in differing(numbers, now) if answer.code == 0 or name in now]
    if changed:
        return words, f"WRONG: exit code {answer.code}, but {', '.join(changed)} differ"
    if answer.code == 0:
        return words, "right"
    said = "; ".join(answer.refusal)
    if not answer.refused or not any(name in said for name in names(words)):
        return words, f"WRONG: exit code {answer.code}: {said or answer.said}"
    return words, f"refused: {said}"
