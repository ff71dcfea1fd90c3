"""Pictures of a data set of Hugging Face's `datasets`, laid once into the cache as a folder of <leaf>/<file>."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = "datasets:"
OPTIONS = ("split", "image", "label", "config", "revision")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SAVED = ("state.json", "dataset_dict.json")
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
_FORMAT = 1
"""Of what is laid into the cache; to be raised when names or bytes of files change."""


@dataclass(frozen=True)
class Spelled:
    """A data set as it is spelled: `datasets:NAME`, and behind a `?` options with `&` between them.

    >>> Spelled.parse("datasets:user/birds?split=train+test&label=species").options
    {'split': 'train+test', 'label': 'species'}

    Attributes:
        name: a folder that `save_to_disk` wrote or `load_dataset` reads, or a name on the hub.
        options: of `OPTIONS`.
    """

    name: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, text: str, what: str = "data.pictures") -> Spelled:
        """The data set that a text spells.

        Raises:
            ValueError: there is no name, or something behind the `?` is no option.
        """
        name, _, behind = text.removeprefix(PREFIX).partition("?")
        pairs = [part.partition("=") for part in behind.split("&") if part]
        options = {key: value for key, _, value in pairs}
        if (
            not name
            or len(options) < len(pairs)
            or any(k not in OPTIONS or not v for k, v in options.items())
        ):
            raise ValueError(
                f"{what} takes a data set as {PREFIX}NAME?split=…&image=COLUMN&label=COLUMN, each option once and none "
                f"needed ({', '.join(OPTIONS)}), found {text!r}"
            )
        return cls(name, options)


@dataclass(frozen=True)
class Extracted:
    """A data set in the cache: the folder of its leaves, its name for the source column, and its licence."""

    folder: Path
    source: str
    licence: str


def is_spelled(name: str) -> bool:
    """Whether a name of pictures is that of a data set."""
    return name.startswith(PREFIX)


def spelling(text: str, what: str) -> str:
    """The text, refused where it is a data set that is spelled wrongly.

    Raises:
        ValueError: it is.
    """
    if is_spelled(text):
        Spelled.parse(text, what)
    return text


def extracted(text: str) -> Extracted:
    """The pictures of a data set as files, the bytes that it holds; laid into the cache when first asked for.

    A folder is laid out anew when one of its files has another size or time; a name on the hub is fetched once,
    whatever the hub has later (`revision` names another state).

    Raises:
        ModuleNotFoundError: `datasets` is not installed.
        FileNotFoundError: there is no such folder, and the hub gave none.
        ValueError: columns or split are not told, rows have no label, or pictures are no JPEG, PNG or WebP.
    """
    from probing.store import cache

    spelled = Spelled.parse(text)
    local = Path(spelled.name)
    found = _listing(local) if local.is_dir() else []
    known = [_FORMAT, str(local.resolve()) if found else spelled.name, sorted(spelled.options.items()), found]
    key = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
    name = re.sub(r"[^\w.-]+", "-", local.name) or "pictures"
    folder = cache.build_once(f"datasets/{name}-{key}", lambda part: _lay_out(spelled, part))
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    return Extracted(folder / "leaves", about["source"], about["licence"])


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [(path, path.stat()) for path in files]
    return [(path.relative_to(folder).as_posix(), at.st_size, at.st_mtime_ns) for path, at in stats]


def _lay_out(spelled: Spelled, part: Path) -> None:
    loaded, about = _load(spelled)
    image, label = _columns(spelled, loaded)
    names = _names(spelled, loaded, label)
    leaves = part / "leaves"
    for leaf in sorted(set(names)):
        (leaves / leaf).mkdir(parents=True)
    faults = []
    for row, (leaf, picture) in enumerate(zip(names, _stored(loaded, image), strict=True)):
        data = picture["bytes"] if picture and picture["bytes"] else None
        if data is None and picture and picture.get("path"):
            data = Path(picture["path"]).read_bytes()
        suffix = _suffix(data or b"")
        if suffix is None:
            faults.append(f"row {row} ({leaf})")
        else:
            (leaves / leaf / f"{row:07d}{suffix}").write_bytes(data or b"")
    if faults:
        raise ValueError(
            f"{len(faults)} of {len(names)} pictures of {spelled.name!r} are missing, or no {', '.join(_SUFFIXES)}: "
            f"{', '.join(faults[:5])}{', …' if len(faults) > 5 else ''}. Convert or filter them in the data set"
        )
    (part / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _load(spelled: Spelled) -> tuple[Any, dict[str, str]]:
    """The rows that are meant, and where they come from."""
    hf, name, options = _library(), spelled.name, spelled.options
    folder = Path(name)
    if not folder.is_dir() and not _HUB_NAME.fullmatch(name):
        raise FileNotFoundError(
            f"No data set {name!r}: no folder here, and no name that the hub could have. Give a folder that "
            "save_to_disk wrote or load_dataset reads, or USER/NAME of the hub"
        )
    if idle := [key for key in ("config", "revision") if key in options and _is_saved(folder)]:
        raise ValueError(f"{name!r} was written by save_to_disk, which has no {idle[0]}; leave it out")
    with _quiet(hf, spelled):
        if _is_saved(folder):
            splits = hf.load_from_disk(name)
            splits = splits if isinstance(splits, dict) else {"train": splits}
            rows = hf.concatenate_datasets([splits[one] for one in _split_names(spelled, list(splits))])
            return rows, {"source": folder.resolve().name, "licence": rows.info.license or ""}
        revision, licence = (None, "") if folder.is_dir() else _on_hub(spelled)
        at = {"revision": revision} if revision else {}
        names = hf.get_dataset_split_names(name, options.get("config"), **at)
        split = "+".join(_split_names(spelled, list(names)))
        rows = hf.load_dataset(name, options.get("config"), split=split, **at)
    source = f"{name}@{revision[:12]}" if revision else folder.resolve().name
    return rows, {"source": source, "licence": rows.info.license or licence}


def _on_hub(spelled: Spelled) -> tuple[str | None, str]:
    """The commit that a name on the hub stands for now, and the licence on its card."""
    from huggingface_hub import HfApi

    info = HfApi().dataset_info(spelled.name, revision=spelled.options.get("revision"))
    licence = (info.card_data or {}).get("license") or ""
    return info.sha, ", ".join(licence) if isinstance(licence, list) else licence


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SAVED)


def _split_names(spelled: Spelled, there: Sequence[str]) -> list[str]:
    """The splits that are meant: those that are named, or the only one."""
    named = spelled.options.get("split")
    wanted = named.split("+") if named else list(there)
    unknown = [one for one in wanted if one not in there]
    if unknown or (len(wanted) > 1 and not named):
        said = f"no split {unknown[0]!r}" if unknown else f"{len(there)} splits and none was named"
        raise ValueError(
            f"The data set {spelled.name!r} has {said}; name some of {', '.join(there)}: ?split={'+'.join(there)}"
        )
    return wanted


def _columns(spelled: Spelled, rows: Any) -> tuple[str, str]:
    """The columns of pictures and of leaves: those that are named, or the only ones that can be meant."""
    hf = _library()
    kinds = {name: type(feature) for name, feature in rows.features.items()}
    labels = [name for name, kind in kinds.items() if kind is hf.ClassLabel]
    named = [name for name in kinds if name in ("label", "labels")]
    fitting = {"image": [name for name, kind in kinds.items() if kind is hf.Image], "label": labels or named}
    chosen = {role: spelled.options.get(role, "") for role in fitting}
    for role, fits in fitting.items():
        named = chosen[role]
        if named not in kinds if named else len(fits) != 1:
            said = f"no column {named!r}" if named else f"{len(fits)} columns that can hold the {role}"
            there = ", ".join(f"{name} ({kind.__name__})" for name, kind in kinds.items())
            raise ValueError(
                f"The data set {spelled.name!r} has {said}; its columns are {there}. Name one: ?{role}=COLUMN"
            )
        chosen[role] = named or fits[0]
    if kinds[chosen["image"]] is not hf.Image:
        raise ValueError(
            f"The column {chosen['image']!r} of {spelled.name!r} holds {rows.features[chosen['image']]}, no pictures; "
            "cast it to datasets.Image, or name another"
        )
    return chosen["image"], chosen["label"]


def _names(spelled: Spelled, rows: Any, label: str) -> list[str]:
    """The leaf of each row."""
    feature, values = rows.features[label], rows[label][:]
    if hasattr(feature, "int2str"):
        lacking = [row for row, value in enumerate(values) if value is None or value < 0]
        names = ["" if value is None or value < 0 else feature.int2str(value) for value in values]
    else:
        lacking = [row for row, value in enumerate(values) if not value]
        names = values
    if any(not isinstance(name, str) for name in names if name):
        raise ValueError(
            f"The column {label!r} of {spelled.name!r} holds {feature}, and leaves have names; make it a text or a "
            "ClassLabel"
        )
    if lacking:
        raise ValueError(
            f"{len(lacking)} of {len(names)} rows of {spelled.name!r} have no {label}, as row {lacking[0]}; "
            "filter them out"
        )
    if odd := sorted({name for name in names if not _is_folder_name(name)}):
        raise ValueError(
            f"{len(odd)} leaves of {spelled.name!r} have names that no folder can have, as {odd[0]!r}; rename them"
        )
    return names


def _is_folder_name(name: str) -> bool:
    return (
        not re.search(r'[/\\:*?"<>|\x00-\x1f\x7f]', name)
        and name == name.strip()
        and not name.startswith(".")
    )


def _stored(rows: Any, image: str) -> Iterator[dict[str, Any] | None]:
    """The pictures as they are stored: their bytes, or the path of a file."""
    for row in rows.select_columns([image]).cast_column(image, _library().Image(decode=False)):
        yield row[image]


def _suffix(data: bytes) -> str | None:
    """What the name of a file with these bytes ends in; None where it is none of the formats that are decoded."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=tuple(_SUFFIXES)) as picture:
            return _SUFFIXES[picture.format or ""]
    except Exception:  # decoders raise errors of any kind over bytes that they did not expect
        return None


def _library() -> Any:
    try:
        import datasets
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"pictures from {PREFIX}NAME need datasets, which is not installed: pip install 'taxoprobe[datasets]'",
            name="datasets",
        ) from None
    return datasets


@contextmanager
def _quiet(hf: Any, spelled: Spelled) -> Iterator[None]:
    """A block without progress bars, whose errors about a data set are one clear line each."""
    hf.disable_progress_bars()
    try:
        yield
    except ModuleNotFoundError:
        raise
    except Exception as error:  # readers and the hub's client raise errors of any kind
        if isinstance(error, ValueError) and str(error).startswith("The data set "):
            raise
        reason = " ".join(str(error).split())[:300]
        place = (
            "the folder cannot be read"
            if Path(spelled.name).is_dir()
            else "no folder here, and the hub did not give it"
        )
        raise FileNotFoundError(f"The data set {spelled.name!r} was asked for; {place} ({reason})") from error
    finally:
        hf.enable_progress_bars()
