"""Push: what a run came to, in a repository of the hub: projector, settings, tables, figures, a report, and a card."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from probing.store import MismatchError
from taxogen.exchange import card
from taxogen.runs.config.reference import to_toml
from taxogen.runs.run import EARLIER, Run
from taxogen.stages import doctor

OF_RUN = (
    "config.json",
    "run.json",
    "world.json",
    "training.csv",
    "taxonomy.csv",
    "pictures.csv",
    "leaf_map.json",
)
SHOWN = (".parquet", ".csv", ".png", ".svg", ".pdf")
OF_REPORT = (*SHOWN, ".html", ".json")
PARTS = "parts"
_REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]{0,95}")


@dataclass(frozen=True)
class Upload:
    """Files for a repository.

    Attributes:
        files: path in the repository → a file here, or what stands in it.
    """

    files: dict[str, Path | bytes]

    @property
    def sizes(self) -> dict[str, int]:
        """Path in the repository → bytes."""
        return {
            name: len(held) if isinstance(held, bytes) else held.stat().st_size
            for name, held in sorted(self.files.items())
        }


def gather(run: Run, repo: str, report: Path | None = None, step: int | None = None) -> Upload:
    """What of a run goes to the hub; nothing is sent.

    Args:
        run: trained to its end.
        repo: USER/NAME.
        report: the folder that `taxoprobe report` wrote, or none.
        step: of the projector; the last by default.

    Raises:
        FileNotFoundError: the run is not trained to its end, has no such projector, or the folder holds no report.
        MismatchError: a result is not as it was written, or does not fit the run as it is now.
        ValueError: the repository's name is none.
    """
    if not _REPO.fullmatch(repo):
        raise ValueError(f"--repo takes USER/NAME of the hub, found {repo!r}")
    snapshot = run.require_snapshot(run.record["steps"] if step is None else step)
    if bad := [check for check in doctor.recorded(run) if not check.holds]:
        raise MismatchError(
            f"{len(bad)} results of {run.path} do not fit it, as {bad[0].name}: {bad[0].detail}"
        )
    files: dict[str, Path | bytes] = {name: run.file(name) for name in OF_RUN if run.file(name).is_file()}
    files[f"projector/{snapshot.name}"] = snapshot
    files["run.toml"] = to_toml(run.config).encode()
    results = run.path / "analyses"
    for path in sorted(results.rglob("*")):
        within = path.relative_to(results)
        if path.suffix in SHOWN and path.is_file() and not {PARTS, EARLIER} & set(within.parts):
            files[f"analyses/{within.as_posix()}"] = path
    if report is not None:
        shown = [path for path in sorted(report.rglob("*")) if path.suffix in OF_REPORT and path.is_file()]
        if not any(path.suffix == ".html" for path in shown):
            raise FileNotFoundError(
                f"no report in {report}: `taxoprobe report --run {run.path} --out {report}` writes it"
            )
        files |= {f"report/{path.relative_to(report).as_posix()}": path for path in shown}
    about = card.of_run(run, repo, int(snapshot.stem.removeprefix("step-")), sorted(files))
    return Upload({**files, "README.md": about.encode()})


def push(upload: Upload, repo: str, message: str, public: bool = False) -> str:
    """The address of the repository, after all files went there in one commit.

    Raises:
        ValueError: there is no token, or the repository is there and is not as private as is asked.
        ConnectionError: the hub cannot be reached, or refuses.
    """
    if not get_token():
        raise ValueError(
            "the hub wants a token and none is here: `hf auth login`, or set HF_TOKEN (one that may write)"
        )
    api = HfApi()
    try:
        _make(api, repo, public)
        held = [CommitOperationAdd(name, held) for name, held in sorted(upload.files.items())]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
            api.create_commit(repo, held, commit_message=message)
    except ValueError:
        raise
    except Exception as error:  # its client raises errors of many libraries
        causes = dict.fromkeys(str(one) for one in (error, error.__cause__) if one)
        reason = " ".join(" ".join(causes).split())[:300]
        said = "refused" if isinstance(error, HfHubHTTPError) else "cannot be reached"
        raise ConnectionError(f"nothing was pushed to {repo}: {api.endpoint} {said} ({reason})") from error
    return f"{api.endpoint}/{repo}"


def _make(api: HfApi, repo: str, public: bool) -> None:
    """Makes a repository, or refuses one that is there and is more or less private than is asked."""
    try:
        private = bool(api.repo_info(repo).private)
    except RepositoryNotFoundError:
        api.create_repo(repo, private=not public, exist_ok=True)
        return
    if private == public:
        now, flag = ("private", "--private") if private else ("public", "--public")
        raise ValueError(f"{repo} is there and {now}: give {flag}, or another --repo")
