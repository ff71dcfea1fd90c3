"""Push against a server here that speaks as much of the hub's protocol as its client needs."""

import base64
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
import yaml
from huggingface_hub import constants

from analyses.behaviour.rows import behaviour_table
from analyses.inputs.conditions import conditions
from probing.store import records
from taxogen.__main__ import main
from taxogen.exchange.push import gather
from taxogen.models import encoders, lms, weights
from taxogen.runs import config
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from tests.world import toy_config, toy_folder

REPO = "me/toy-run"
OF_THE_CLIENT = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
"""What the hub's client warns of, about its own call."""


class Hub(ThreadingHTTPServer):
    """Repositories by name, each with its visibility and its files."""

    def __init__(self, **there: str):
        super().__init__(("127.0.0.1", 0), Asked)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.visibility = {name.replace("__", "/"): seen for name, seen in there.items()}
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.commits: list[str] = []
        self.forbidden = False


class Asked(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_):
        pass

    def answer(self, value: object, status: int = 200, **headers: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
            **headers,
        }.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        name = self.path.removeprefix("/api/models/").partition("/revision")[0]
        if self.path.startswith("/api/models/"):
            self.server.tokens.add(self.headers.get("Authorization"))
        if name not in self.server.visibility:
            self.answer({"error": "Repository not found"}, 404, **{"X-Error-Code": "RepoNotFound"})
            return
        self.answer(
            {
                "id": name,
                "sha": "0" * 40,
                "private": self.server.visibility[name] == "private",
                "siblings": [],
            }
        )

    def do_PUT(self):
        self.server.objects[self.path.rpartition("/")[2]] = self.rfile.read(
            int(self.headers["Content-Length"])
        )
        self.answer({})

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.forbidden:
            self.answer({"error": "this token may only read"}, 403)
        elif self.path == "/api/repos/create":
            asked = json.loads(sent)
            self.server.visibility[f"{asked['organization']}/{asked['name']}"] = asked["visibility"]
            self.answer({"url": f"{self.server.address}/{REPO}"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif self.path.endswith("/preupload/main"):
            names = [one["path"] for one in json.loads(sent)["files"]]
            large = (".safetensors", ".parquet")
            modes = {name: "lfs" if name.endswith(large) else "regular" for name in names}
            told = {"shouldIgnore": False, "oid": None}
            self.answer(
                {"files": [{"path": name, "uploadMode": mode, **told} for name, mode in modes.items()]}
            )
        elif self.path.endswith("/objects/batch"):
            self.answer(
                {"transfer": "basic", "objects": [self.uploaded(one) for one in json.loads(sent)["objects"]]}
            )
        elif self.path.endswith("/commit/main"):
            self.commit([json.loads(line) for line in sent.decode().splitlines()])
        else:
            self.answer({})

    def uploaded(self, one: dict) -> dict:
        href = f"{self.server.address}/objects/{one['oid']}"
        return {"oid": one["oid"], "size": one["size"], "actions": {"upload": {"href": href, "header": {}}}}

    def commit(self, lines: list[dict]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.server.commits.append(value["summary"])
            elif line["key"] == "lfsFile":
                self.server.files[value["path"]] = self.server.objects[value["oid"]]
            else:
                self.server.files[value["path"]] = base64.b64decode(value["content"])
        self.answer({"commitUrl": f"{self.server.address}/{REPO}/commit/abc", "commitOid": "abc"})


@pytest.fixture
def hub():
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, toy_lm):
    """The folder of a trained run with a result, one that was set aside, and a report beside it."""
    folder = tmp_path_factory.mktemp("pushed")
    with toy_folder(folder, toy_lm) as settings:
        run = Run.create("run", toy_config(settings, "train.steps=3", "capture.at=last"))
        pipeline.train_run(run)
        results = run.folder("analyses", "behaviour")
        makers = {"analysis": "behaviour", "runs": {"run": run.makers()}}
        for path in (results / "behaviour.parquet", results / "earlier" / "0a" / "behaviour.parquet"):
            path.parent.mkdir(parents=True, exist_ok=True)
            records.write(path, lambda part: pd.DataFrame({"value": [0.5]}).to_parquet(part), makers)
        records.write(results / "directions.h5", lambda part: part.write_bytes(b"large"), makers)
        Path("page").mkdir()
        Path("page/report.html").write_text("<title>about the run</title>")
    return folder


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    """A copy of that folder, which is the working directory, with a token."""
    monkeypatch.chdir(shutil.copytree(trained, tmp_path / "copy"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")


@pytest.fixture
def here(hub, monkeypatch):
    """That hub as the one of this process; its files are sent as they are, without the deduplication of Xet."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def said(caplog, *words: str, repo: str = REPO) -> str:
    """The last line about a push that is refused."""
    assert main(["push", "--run", "run", "--repo", repo, *words]) == 2
    return caplog.messages[-1]


@OF_THE_CLIENT
def test_a_run_is_in_the_repository_as_it_is_here(place, hub, here, capsys):
    assert main(["push", "--run", "run", "--repo", REPO, "--report", "page"]) == 0
    done, run = capsys.readouterr().out, Run.open("run")
    assert "pushed 12 files" in done
    assert f"to {hub.address}/{REPO}" in done
    assert hub.visibility == {REPO: "private"}
    assert hub.tokens == {"Bearer hf_secret"}
    assert hub.commits == [f"Run run ({run.config.hash})"]
    files = {
        "projector/step-000003.safetensors": run.snapshot(3),
        "analyses/behaviour/behaviour.parquet": run.path / "analyses" / "behaviour" / "behaviour.parquet",
        "report/report.html": Path("page/report.html"),
        **{name: run.file(name) for name in ("config.json", "run.json", "world.json", "training.csv")},
        **{name: run.file(name) for name in ("taxonomy.csv", "pictures.csv", "leaf_map.json")},
    }
    assert set(hub.files) == {*files, "run.toml", "README.md"}
    assert {name: hub.files[name] for name in files} == {
        name: path.read_bytes() for name, path in files.items()
    }
    Path("again.toml").write_bytes(hub.files["run.toml"])
    assert config.read("again.toml") == run.config
    card = hub.files["README.md"].decode()
    assert yaml.safe_load(card.split("---")[1]) == {"tags": ["taxoprobe"]}
    assert run.config.hash in card
    assert "after 3 steps of training on" in card
    assert f"hf_hub_download('{REPO}', 'projector/step-000003.safetensors')" in card
    assert "- `analyses/behaviour/behaviour.parquet`" in card


def test_the_card_has_the_main_scores_as_the_behaviour_table_has_them(place):
    run = Run.open("run")
    assert (
        "it was not asked yet (`taxoprobe evaluate --run run`)"
        in gather(run, REPO).files["README.md"].decode()
    )
    pipeline.evaluate_run(run)
    card = gather(run, REPO).files["README.md"].decode()
    table = behaviour_table(conditions([run]))
    table = table[table["headline"] & (table["target"] == "mean") & (table["modality"] == "image")]
    of = table.set_index("measure").loc[["auroc", "top1", "leaf_naming"]]
    scores = card.partition("## Scores")[2].partition("##")[0]
    lines = [line.split(" | ")[1:] for line in scores.splitlines() if "[" in line]
    assert lines == [
        [f"{row.value:.3f}", f"[{row.lower:.3f}, {row.upper:.3f}]", f"{row.chance:.3f} |"]
        for row in of.itertuples()
    ]
    assert f"over {of['n'].iloc[0]} leaf concepts" in card
    assert "over the 3 hypernyms whose evidence was removed" in card
    assert (
        f"revision `{run.world['encoder']['revision']}`: see the model card of {run.config.model.encoder} |"
        in card
    )


@pytest.mark.parametrize("name", [*encoders.EMBEDDED, lms.EMBEDDED])
def test_of_models_in_packages_the_card_has_the_licence_and_of_others_where_it_stands(name):
    assert weights.licence(name) in ("Apache-2.0", "MIT")
    assert weights.licence(f"somebody/{name}#final") == f"see the model card of somebody/{name}"


def test_a_dry_run_lists_files_and_sizes_and_asks_nobody(place, monkeypatch, capsys):
    monkeypatch.setattr("taxogen.exchange.push.HfApi", lambda: pytest.fail("the hub was asked"))
    assert main(["push", "--run", "run", "--repo", REPO, "--dry-run", "--public"]) == 0
    upload = gather(Run.open("run"), REPO)
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1] for line in lines] == sorted(upload.files)
    assert "projector/step-000003.safetensors" in upload.files
    assert sum(upload.sizes.values()) == sum(
        len(held) if isinstance(held, bytes) else len(held.read_bytes()) for held in upload.files.values()
    )
    assert f"11 files, to {REPO} (public); nothing was sent" in last


@OF_THE_CLIENT
@pytest.mark.parametrize(("there", "flag"), [("public", "--private"), ("private", "--public")])
def test_a_repository_that_is_seen_by_others_than_asked_gets_nothing(place, hub, here, there, flag, caplog):
    hub.visibility[REPO] = there
    assert f"{REPO} is there and {there}: give --{there}, or another --repo" in said(caplog, flag)
    assert not hub.files
    assert main(["push", "--run", "run", "--repo", REPO, f"--{there}"]) == 0
    assert hub.visibility == {REPO: there}
    assert len(hub.files) == 11


def test_a_hub_that_refuses_or_is_not_there_is_one_line(place, hub, here, monkeypatch, caplog):
    hub.forbidden = True
    refusal = said(caplog)
    assert f"nothing was pushed to {REPO}: {hub.address} refused (" in refusal
    assert "\n" not in refusal
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    gone = said(caplog)
    assert f"nothing was pushed to {REPO}: http://127.0.0.1:9 cannot be reached (" in gone
    assert "\n" not in gone
    assert gone.count("[Errno") == 1


def test_what_cannot_be_pushed_is_refused_before_the_hub_is_asked(place, monkeypatch, caplog):
    monkeypatch.setattr("taxogen.exchange.push.HfApi", lambda: pytest.fail("the hub was asked"))
    monkeypatch.setattr("taxogen.exchange.push.get_token", lambda: None)
    assert "--repo takes USER/NAME of the hub, found 'toy'" in said(caplog, repo="toy")
    assert "`hf auth login`, or set HF_TOKEN" in said(caplog)
    assert "no report in elsewhere: `taxoprobe report" in said(caplog, "--report", "elsewhere")
    assert "no projector of step 2" in said(caplog, "--step", "2")
    Path("run/analyses/behaviour/behaviour.parquet").write_bytes(b"altered")
    assert "1 results of run do not fit it, as analyses/behaviour/behaviour.parquet" in said(caplog)
    Path("run/run.json").unlink()
    assert "the run run is not complete (no run.json)" in said(caplog)
