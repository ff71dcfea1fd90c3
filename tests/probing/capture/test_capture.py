import os
import signal
import threading
from dataclasses import replace
from multiprocessing import get_context
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from capture_job import SITES, batches, folder_bytes, job, model, work
from tiny_models import CONFIGS, MULTIMODAL, tiny

from probing.capture import CaptureBatch, capture, loop, plan, writer
from probing.hooks import run
from probing.hooks.verify import Report
from probing.spans import Row, collate, expand_images
from probing.store import ActivationStore, MismatchError


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A store that was captured without interruption."""
    path = tmp_path_factory.mktemp("reference") / "store"
    job(path)
    return path


def expected_rows(lm, batch, site, span, pooling):
    """What a store should hold, from one forward pass a row without padding."""
    rows = []
    for i, positions in enumerate(batch.spans[span]):
        real = batch.inputs["attention_mask"][i].bool()
        ids = batch.inputs["input_ids"][i][real[-batch.inputs["input_ids"].shape[1] :]]
        shift = int(real.int().argmax())
        value = run(lm, {"input_ids": ids[None]}, site)[site][0, [p - shift for p in positions]]
        rows.append({"mean": value.mean(0, keepdim=True), "last": value[-1:], "all": value}[pooling])
    return torch.cat(rows).numpy()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", [*CONFIGS, "llava", "qwen3_vl"])
def test_rows_are_those_of_single_passes_without_padding(tmp_path, name, side):
    lm = tiny(name)
    made = batches(items=6, side=side, lazy=False)
    pooling = {"noun": "mean", "cue": "all", "last": "last"}
    sites = [
        "hook_embed",
        "blocks.*.hook_resid_*",
        "blocks.1.hook_attn_out",
        "blocks.1.*.hook_z",
        "ln_final.*",
    ]
    store = capture(lm, made, tmp_path, sites=sites, pooling=pooling)
    for site in store.sites:
        for span, kind in pooling.items():
            expected = np.concatenate([expected_rows(lm, batch, site, span, kind) for batch in made])
            found = store.read(site, span)
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_positions_trace_a_row_to_its_tokens(tmp_path):
    made = batches(items=8, side="left", lazy=False)
    store = capture(model(), made, tmp_path, sites="hook_embed", pooling={"cue": "all"})
    tokens = store.tokens("cue")
    ids = {
        item: batch.inputs["input_ids"][i][batch.inputs["attention_mask"][i].bool()]
        for batch in made
        for i, item in enumerate(batch.item_ids)
    }
    embedding = model().model.embed_tokens.weight.detach().numpy()
    for vector, item, position in zip(store.read("hook_embed", "cue"), tokens["item_id"], tokens["position"]):
        assert np.array_equal(vector, embedding[ids[item][position]])


def picture_batches(prefix):
    """Two pictures with three questions each, as sequences of embeddings; with a shared prefix or without."""
    generator = torch.Generator().manual_seed(4)
    pictures = torch.randn(2, 5, 32, generator=generator)
    questions = [
        Row(tuple(range(10 + i, 14 + i + i % 3)), {"last": (3 + i % 3,), "noun": (1, 2)}) for i in range(6)
    ]
    owner = [0, 0, 0, 1, 1, 1]
    inputs, spans = collate(questions)
    embed = model().model.embed_tokens
    words = embed(inputs["input_ids"]).detach()
    mask = torch.cat([torch.ones(6, 5, dtype=torch.long), inputs["attention_mask"]], 1)
    places = (mask.cumsum(1) - 1).clamp_min(0)
    spans = {name: [tuple(p + 5 for p in row) for row in rows] for name, rows in spans.items()}
    spans["image"] = [tuple(range(5))] * 6
    spans["across"] = [(4, 5)] * 6
    ids = [f"p{owner[i]}q{i}" for i in range(6)]
    if prefix:
        rest = {"inputs_embeds": words, "attention_mask": mask, "position_ids": places[:, 5:]}
        return [
            CaptureBatch(
                lambda: rest, ids, spans, prefix=lambda: {"inputs_embeds": pictures}, prefix_rows=owner
            )
        ]
    whole = torch.cat([pictures[owner], words], 1)
    return [
        CaptureBatch({"inputs_embeds": whole, "attention_mask": mask, "position_ids": places}, ids, spans)
    ]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_shared_prefix_gives_the_rows_of_whole_sequences(tmp_path, attention):
    lm = tiny("llama", attention=attention)
    sites = ["hook_embed", "blocks.*.*", "blocks.*.*.hook_z", "ln_final.*"]
    sites += ["blocks.*.attn.hook_pattern"] if attention == "eager" else []
    pooling = {"image": "all", "across": "mean", "last": "last", "noun": "mean"}
    shared = capture(lm, picture_batches(True), tmp_path / "shared", sites=sites, pooling=pooling)
    whole = capture(lm, picture_batches(False), tmp_path / "whole", sites=sites, pooling=pooling)
    for site in whole.sites:
        for span in whole.spans:
            a, b = shared.read(site, span), whole.read(site, span)
            assert np.abs(a - b).max() <= 1e-5 * max(np.abs(b).max(), 1e-6)
    assert shared.tokens("image").equals(whole.tokens("image"))
    assert shared.tokens("across").equals(whole.tokens("across"))


def test_only_the_prefix_runs_when_only_it_is_asked_for(tmp_path):
    lm = model()
    batch = picture_batches(True)[0]
    only = CaptureBatch(
        batch.inputs,
        batch.item_ids,
        {"image": batch.spans["image"]},
        prefix=batch.prefix,
        prefix_rows=batch.prefix_rows,
    )
    lengths = []
    capture(lm, picture_batches(True), tmp_path / "warm", sites="blocks.0.hook_resid_post")
    handle = lm.model.register_forward_pre_hook(
        lambda _, __, kw: lengths.append(kw["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    capture(lm, [only], tmp_path / "s", sites="blocks.0.hook_resid_post")
    handle.remove()
    assert lengths == [(2, 5)]


def test_a_span_in_a_cached_prefix_is_refused(tmp_path):
    lm = model()
    with torch.no_grad():
        cache = lm(input_ids=torch.tensor([[5, 6, 7]]), use_cache=True).past_key_values
    inputs = {"input_ids": torch.tensor([[8, 9]]), "past_key_values": cache}
    with pytest.raises(
        ValueError, match=r"reaches into the 3 tokens of the cached prefix.*CaptureBatch\.prefix"
    ):
        capture(lm, [CaptureBatch(inputs, ["a"], {"x": [[2, 3]]})], tmp_path / "a", sites="hook_embed")


def test_rows_after_a_cached_prefix_are_those_of_the_whole_sequence(tmp_path):
    lm = model()
    with torch.no_grad():
        cache = lm(input_ids=torch.tensor([[5, 6, 7]]), use_cache=True).past_key_values
    inputs = {"input_ids": torch.tensor([[8, 9]]), "past_key_values": cache}
    site = "blocks.1.hook_resid_post"
    store = capture(lm, [CaptureBatch(inputs, ["a"], {"x": [[4]]})], tmp_path, sites=site)
    whole = run(lm, {"input_ids": torch.tensor([[5, 6, 7, 8, 9]])}, site)[site][0, 4]
    assert np.allclose(store.read(site, "x")[0], whole.numpy(), atol=1e-5)
    assert store.tokens("x")["position"].tolist() == [4]


@pytest.mark.parametrize("name", MULTIMODAL)
def test_pictures_of_multimodal_models(tmp_path, name):
    """The picture tokens of a Hugging Face multimodal model, found after the expansion of placeholders."""
    lm = tiny(name)
    image = 119
    if name.startswith("qwen"):
        pixels = {"pixel_values": torch.randn(16, 48), "image_grid_thw": torch.tensor([[1, 4, 4]])}
    elif name in ("idefics3", "smolvlm"):
        pixels = {"pixel_values": torch.randn(1, 4, 3, 8, 8)}
    else:
        pixels = {"pixel_values": torch.randn(1, 3, 8, 8)}
    row = expand_images(Row((5, 117, image, 7, 8), {"last": (4,)}), image, [4])
    inputs, spans = collate([row])
    inputs.pop("position_ids")
    if name.startswith("qwen"):
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == image).int()
    batch = CaptureBatch({**inputs, **pixels}, ["a"], spans)
    store = capture(lm, [batch], tmp_path, sites=["hook_embed", "blocks.*.*"], pooling={"image": "all"})
    with torch.no_grad():
        states = lm(**inputs, **pixels, output_hidden_states=True).hidden_states
    for layer in range(3):
        # Qwen3-VL adds deeper picture features between its first blocks, after what it calls hidden_states.
        deepstack = name == "qwen3_vl" and layer > 0
        site = f"blocks.{layer - 1}.hook_resid_post" if deepstack else f"blocks.{layer}.hook_resid_pre"
        assert np.array_equal(store.read(site, "image"), states[layer][0, list(row.spans["image"])].numpy())
        added = store.read(f"blocks.{layer}.hook_resid_pre", "image") - store.read(site, "image")
        assert added.any() == deepstack
    assert store.tokens("image")["position"].tolist() == [2, 3, 4, 5]


def test_attributes_say_where_the_rows_come_from(reference):
    attributes = ActivationStore.open(reference).attributes
    assert attributes["manifest_hash"] == "toy"
    assert attributes["model"] == "LlamaForCausalLM"
    assert attributes["model_dtype"] == "float32"
    assert attributes["attention"] == "sdpa"
    assert len(attributes["weight_hash"]) == 64


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_dtypes_are_those_of_torch(tmp_path, reference, dtype):
    store = job(tmp_path, dtype=dtype)
    full = ActivationStore.open(reference)
    for site in store.sites:
        rounded = torch.from_numpy(full.read(site, "last")).to(getattr(torch, dtype)).float().numpy()
        assert np.array_equal(store.read(site, "last").astype(np.float32), rounded)


def outlier_model():
    lm = tiny("llama")
    with torch.no_grad():
        lm.model.embed_tokens.weight[:, 3] = 70000.0
    return lm


def test_values_beyond_float16_are_refused_and_named(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"hook_embed at span '\w+' of item 'item-0' is not finite as float16 .*65504.*bfloat16",
    ):
        capture(outlier_model(), batches(4), tmp_path, sites="hook_embed", dtype="float16")
    assert not list(tmp_path.glob("*.part"))
    store = capture(outlier_model(), batches(4), tmp_path / "b", sites="hook_embed", dtype="bfloat16")
    assert np.abs(store.read("hook_embed", "last")).max() > 65504


def test_values_that_are_no_numbers_are_refused(tmp_path):
    lm = tiny("llama")
    capture(lm, batches(2), tmp_path / "before", sites="hook_embed")
    with torch.no_grad():
        lm.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(
        ValueError, match=r"blocks\.1\.hook_mlp_out .* is not finite as float32 \(the model itself\)"
    ):
        capture(lm, batches(4), tmp_path / "after", sites="blocks.*.hook_mlp_out")


def test_a_model_that_fails_verification_is_refused_before_any_row(tmp_path, monkeypatch):
    red = Report("Toy", (loop.verify(tiny("llama")).checks[0].__class__("shapes", False, "no"),))
    monkeypatch.setattr(loop, "verify", lambda *_, **__: red)
    with pytest.raises(ValueError, match="Toy cannot be captured faithfully: shapes: no"):
        capture(tiny("llama"), batches(4), tmp_path, sites="hook_embed")
    assert not list(tmp_path.glob("shard*"))


def test_training_mode_is_left_for_the_capture_and_put_back(tmp_path, reference):
    lm = tiny("llama")
    lm.config.attention_dropout = 0.5
    lm.train()
    store = job(tmp_path, lm=lm)
    assert lm.training
    full = ActivationStore.open(reference)
    assert np.array_equal(store.read(SITES[0], "last"), full.read(SITES[0], "last"))


def test_a_capture_that_fails_goes_on_where_it_stopped(tmp_path, reference):
    """Failures at every batch in turn; in the end the bytes are those of one go."""
    for failing in range(0, 12, 3):
        with pytest.raises(RuntimeError, match="out of memory"):
            job(tmp_path, fail_at=failing)
        assert not list(tmp_path.glob("*.part"))
    store = job(tmp_path)
    assert folder_bytes(tmp_path) == folder_bytes(reference)
    assert len(store) == 46


def test_finished_rows_are_skipped_without_making_their_inputs(tmp_path):
    calls = []
    job(tmp_path, calls=calls)
    assert len(calls) == 12
    before = folder_bytes(tmp_path)
    job(tmp_path, calls=calls)
    assert len(calls) == 12
    assert folder_bytes(tmp_path) == before
    more = job(tmp_path, items=60, calls=calls)
    assert len(calls) == 12 + 4  # the batch that was half there, and three new ones
    assert more.item_ids.tolist() == [f"item-{i}" for i in range(60)]
    fresh = job(tmp_path / "fresh", items=60)
    for span in fresh.spans:
        assert np.allclose(more.read(SITES[2], span), fresh.read(SITES[2], span), atol=1e-6)
    assert more.tokens("cue").equals(fresh.tokens("cue"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dtype": "bfloat16"}, "dtype: there 'float32', asked 'bfloat16'"),
        ({"sites": ["hook_embed"]}, r"sites: there \['hook_embed', .*asked \['hook_embed'\]"),
        ({"attributes": {"manifest_hash": "other"}}, "manifest_hash: there 'toy', asked 'other'"),
        ({"pooling": {"noun": "last"}}, "spans: there .*'noun': 'mean'.*asked .*'noun': 'last'"),
        ({"shard_rows": 11}, "shard_rows: there 10, asked 11"),
        ({"lm": "other weights"}, "weight_hash: there '[0-9a-f]{64}'"),
        ({"lm": "eager"}, "attention: there 'sdpa', asked 'eager'"),
    ],
)
def test_another_capture_is_refused_with_the_difference_named(reference, changes, named):
    if changes.get("lm") == "other weights":
        changes["lm"] = tiny("llama")
        with torch.no_grad():
            changes["lm"].lm_head.weight[0, 0] += 1
    elif changes.get("lm") == "eager":
        changes["lm"] = tiny("llama", attention="eager")
    before = folder_bytes(reference)
    with pytest.raises(MismatchError, match=f"holds another capture .*{named}.*another folder"):
        job(reference, **changes)
    assert folder_bytes(reference) == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dtype": "int8"}, ValueError, "dtype is one of float32, float16, bfloat16, found 'int8'"),
        ({"sites": "blocks.7.hook_resid_post"}, KeyError, "no site matches"),
        (
            {"pooling": {"nuon": "mean"}},
            KeyError,
            "pooling names the span 'nuon'; the batches have noun, cue, last",
        ),
        (
            {"pooling": {"noun": "max"}},
            ValueError,
            "the pooling of span 'noun' is mean, last or all, found 'max'",
        ),
        ({"compression": "zip"}, ValueError, "compression is None or 'blosc2'"),
    ],
)
def test_wrong_arguments_are_refused_before_the_model_runs(tmp_path, arguments, error, message):
    calls = []
    with pytest.raises(error, match=message):
        job(tmp_path, calls=calls, **arguments)
    assert not calls
    assert not list(tmp_path.iterdir())


def test_wrong_batches_are_refused(tmp_path):
    inputs = {"input_ids": torch.tensor([[5, 6]])}
    with pytest.raises(ValueError, match="span 'x' has 2 rows, the batch has 1 item_ids"):
        CaptureBatch(inputs, ["a"], {"x": [[0], [1]]})
    with pytest.raises(ValueError, match="column 'c' has 0 rows"):
        CaptureBatch(inputs, ["a"], {"x": [[0]]}, {"c": []})
    with pytest.raises(ValueError, match="prefix_rows has 2 rows"):
        CaptureBatch(inputs, ["a"], {"x": [[0]]}, prefix=inputs, prefix_rows=[0, 0])
    with pytest.raises(ValueError, match="at least one item and one span"):
        CaptureBatch(inputs, ["a"], {})
    with pytest.raises(ValueError, match="there is no batch"):
        capture(model(), iter([]), tmp_path, sites="hook_embed")
    twice = [CaptureBatch(inputs, ["a"], {"x": [[0]]})] * 2
    with pytest.raises(ValueError, match=r"unique in a store, these occur twice: \['a'\]"):
        capture(model(), twice, tmp_path / "twice", sites="hook_embed")
    with pytest.raises(ValueError, match="need input_ids or inputs_embeds, found pixel_values"):
        capture(
            model(),
            [CaptureBatch({"pixel_values": torch.zeros(1)}, ["a"], {"x": [[0]]})],
            tmp_path / "p",
            sites="hook_embed",
        )


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        OSError, match=r"cannot write an activation store in .*choose a folder that can be written"
    ):
        job(tmp_path / "file" / "store")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_clear_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=r"cannot write an activation store in .*Permission denied"):
        job(tmp_path)


def test_too_little_disk_is_noticed_before_the_second_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    calls = []
    with pytest.raises(OSError, match=r"needs 0\.0 GiB, 0\.0 GiB are free; free space"):
        job(tmp_path, calls=calls)
    assert len(calls) == 1


@pytest.fixture(scope="module")
def start():
    """A function that starts the toy capture in a new process, which has another PYTHONHASHSEED than this one."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["capture_job"])
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "7"

    def start(path, **options):
        process = context.Process(target=work, args=(path, path.with_suffix(".log")), kwargs=options)
        process.start()
        return process

    yield start
    os.environ.pop("PYTHONHASHSEED")
    os.environ.update({} if before is None else {"PYTHONHASHSEED": before})


def test_a_full_disk_is_one_clear_error_and_keeps_finished_shards(tmp_path, reference, start):
    # The limit of a file's size stands in for a full disk: the first shards fit, the larger last one does not.
    size = max(file.stat().st_size for file in reference.glob("*.h5"))
    process = start(tmp_path / "s", file_limit=4 * size, long_last=True)
    process.join(120)
    said = (tmp_path / "s.log").read_text()
    assert process.exitcode == 1
    assert "failed" in said
    assert "finished shards are kept; free space or mend the folder, then run the same capture again" in said
    kept = folder_bytes(tmp_path / "s")
    assert not [name for name in kept if name.endswith(".part")]
    for name in ("shard-00000.h5", "shard-00001.h5", "shard-00002.h5"):
        assert kept[name] == folder_bytes(reference)[name]


def kill_and_resume(path, delays, start, slow=0.03):
    """How many of the captures were killed before their end; no finished shard may be lost."""
    kills = 0
    for delay in delays:
        kept = set(path.glob("shard-*.h5"))
        process = start(path, slow=slow)
        process.join(delay)
        process.kill()
        process.join(120)
        kills += process.exitcode == -signal.SIGKILL
        assert kept <= set(path.glob("shard-*.h5"))
    return kills


def test_killed_captures_end_with_the_same_bytes(tmp_path, reference, start):
    """SIGKILL at moments spread over the run; no row is lost beyond the open shard."""
    warm = start(tmp_path / "warm")
    warm.join(120)
    path = tmp_path / "s"
    delays = np.random.default_rng(0).uniform(0.2, 1.2, 5)
    assert kill_and_resume(path, delays, start) >= 3
    last = start(path)
    last.join(120)
    assert last.exitcode == 0
    assert folder_bytes(path) == folder_bytes(reference) == folder_bytes(tmp_path / "warm")


def test_two_processes_write_the_bytes_of_one(tmp_path, reference, start):
    processes = [start(tmp_path / "s", rank=rank, address=tmp_path / "meet") for rank in range(2)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert folder_bytes(tmp_path / "s") == folder_bytes(reference)


def test_processes_without_a_group_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        RuntimeError, match=r"2 processes were launched .* call torch\.distributed\.init_process_group"
    ):
        job(tmp_path)


def test_an_error_of_the_writing_thread_stops_the_capture(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.ShardWriter, "append", fail)
    calls = []
    with pytest.raises(OSError, match=r"writing activations into .* failed .*No space left"):
        job(tmp_path, calls=calls)
    assert 0 < len(calls) <= 12
    assert not [thread for thread in threading.enumerate() if thread.name == "activation-writer"]


def test_a_mask_that_does_not_cover_prefix_and_rest_is_refused(tmp_path):
    batch = picture_batches(True)[0]
    inputs = batch.inputs()
    short = {**inputs, "attention_mask": inputs["attention_mask"][:, 5:]}
    with pytest.raises(ValueError, match="has to cover all 11 positions, the 5 of the prefix too; found 6"):
        capture(model(), [replace(batch, inputs=short)], tmp_path, sites="blocks.0.hook_resid_post")


def test_left_padding_needs_no_positions(tmp_path):
    batch = batches(items=8, side="left", lazy=False)[0]
    inputs = {name: value for name, value in batch.inputs.items() if name != "position_ids"}
    bare = capture(
        model(), [replace(batch, inputs=inputs)], tmp_path / "bare", sites="blocks.2.hook_resid_post"
    )
    full = capture(model(), [batch], tmp_path / "full", sites="blocks.2.hook_resid_post")
    expected = expected_rows(model(), batch, "blocks.2.hook_resid_post", "cue", "all")
    counts = np.cumsum([len(places) for places in batch.spans["cue"]])[:-1]
    means = np.stack([part.mean(0) for part in np.split(expected, counts)])
    assert np.abs(bare.read("blocks.2.hook_resid_post", "cue") - means).max() <= 1e-5
    assert np.array_equal(
        bare.read("blocks.2.hook_resid_post", "cue"), full.read("blocks.2.hook_resid_post", "cue")
    )


def test_a_batch_without_a_single_token_is_refused(tmp_path):
    batch = replace(picture_batches(True)[0], spans={"image": [()] * 6})
    with pytest.raises(ValueError, match="no row of a batch has a token in any of the spans image"):
        capture(model(), [batch], tmp_path, sites="blocks.0.hook_resid_post", pooling={"image": "all"})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"item_ids": [0]}, r"item_ids are texts, .* found 0 \(int\): give str"),
        ({"item_ids": "a"}, "item_ids are texts, one a row"),
        ({"item_ids": [""]}, "not empty"),
        ({"item_ids": ["a\0"]}, "without null characters"),
        ({"spans": {"x": [(0.5,)]}}, r"span 'x' has \(0.5,\) in row 0; spans are lists of whole numbers"),
        ({"spans": {"x": [(True,)]}}, "spans are lists of whole numbers"),
        ({"spans": {"x": [0]}}, "spans are lists of whole numbers"),
        ({"spans": {"a/b": [(0,)]}}, "spans are named by text without '/'"),
        ({"columns": {"leaf": [None]}}, "column 'leaf' has to be all text"),
        ({"columns": {"leaf": [2**70]}}, "column 'leaf' cannot be stored"),
        ({"columns": {"leaf": ["\ud800"]}}, "column 'leaf' cannot be stored"),
        ({"prefix_rows": [0]}, "prefix_rows were given without a prefix"),
    ],
)
def test_malformed_batches_are_refused_where_they_are_made(wrong, said):
    right = {"inputs": {"input_ids": torch.tensor([[5, 6]])}, "item_ids": ["a"], "spans": {"x": [(0,)]}}
    CaptureBatch(**right)
    with pytest.raises(ValueError, match=said):
        CaptureBatch(**{**right, **wrong})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"item_ids": ["a", "b"], "spans": {"x": [(0,)] * 2}}, "2 item_ids, and input_ids has 1 rows"),
        (
            {"inputs": {"input_ids": torch.ones(1, 3).long(), "attention_mask": torch.ones(1, 3, 3)}},
            "needs .rows, tokens",
        ),
        (
            {"prefix": {"input_ids": torch.tensor([[3]])}, "prefix_rows": [1]},
            "names row 1, the prefix has 1 rows",
        ),
        ({"prefix": {"input_ids": torch.tensor([[3]])}, "prefix_rows": [-1]}, "names row -1"),
    ],
)
def test_batches_that_do_not_fit_their_inputs_are_refused_and_spoil_no_folder(tmp_path, change, said):
    right = {"inputs": {"input_ids": torch.tensor([[5, 6, 7]])}, "item_ids": ["a"], "spans": {"x": [(0,)]}}
    with pytest.raises(ValueError, match=said):
        capture(model(), [CaptureBatch(**{**right, **change})], tmp_path, sites="hook_embed")
    assert len(capture(model(), [CaptureBatch(**right)], tmp_path, sites="hook_embed")) == 1


def test_columns_of_another_kind_and_attributes_that_no_store_holds_are_refused(tmp_path):
    inputs = {"input_ids": torch.tensor([[5, 6]])}
    made = [
        CaptureBatch(inputs, [name], {"x": [(0,)]}, {"leaf": [leaf]})
        for name, leaf in (("a", "crow"), ("b", 1))
    ]
    with pytest.raises(ValueError, match=r"same columns: expected .*text.*, found .*numbers.* at item 'b'"):
        capture(model(), made, tmp_path / "a", sites="hook_embed", shard_rows=1)
    for attributes, said in (
        ({"x": {1, 2}}, "attribute 'x' is a set"),
        ({"dtype": "int8"}, "are named dtype"),
    ):
        with pytest.raises(ValueError, match=said):
            capture(model(), made[:1], tmp_path / "b", sites="hook_embed", attributes=attributes)
    with pytest.raises(ValueError, match="shard_rows is a number of items from 1 on, found 0"):
        capture(model(), made[:1], tmp_path / "b", sites="hook_embed", shard_rows=0)
    assert not (tmp_path / "b").exists()
