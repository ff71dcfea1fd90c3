import multiprocessing
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from probing.store import cache


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _slow_make(part: Path) -> None:
    part.mkdir()
    (part / "maker").write_text(str(os.getpid()))
    time.sleep(0.5)
    (part / "done").write_text("yes")


def _build(results) -> None:
    made = cache.build_once("models/slow", _slow_make)
    results.put((os.getpid(), (made / "maker").read_text(), (made / "done").read_text()))


def _hold_until_killed(path: Path, held) -> None:
    with cache.locked(path):
        held.set()
        time.sleep(60)


def test_the_environment_names_the_folder(cache_folder):
    assert cache.folder() == cache_folder


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has its own place for caches")
def test_without_the_variable_it_is_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("TAXOPROBE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "taxoprobe"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "taxoprobe"


def test_an_entry_is_made_once(cache_folder):
    calls = []

    def make(part):
        calls.append(part)
        part.write_text("content")

    first, second = cache.build_once("a/b.txt", make), cache.build_once("a/b.txt", make)
    assert first == second == cache_folder / "a" / "b.txt"
    assert first.read_text() == "content"
    assert len(calls) == 1


def test_two_processes_at_once_make_one_entry():
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_build, args=(results,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    seen = [results.get(timeout=20) for _ in workers]
    for worker in workers:
        worker.join(timeout=20)
    assert len({pid for pid, _, _ in seen}) == 2
    assert len({maker for _, maker, _ in seen}) == 1
    assert {done for _, _, done in seen} == {"yes"}


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    context = multiprocessing.get_context("fork")
    held = context.Event()
    worker = context.Process(target=_hold_until_killed, args=(tmp_path / "x", held))
    worker.start()
    assert held.wait(timeout=20)
    worker.kill()
    worker.join(timeout=20)
    started = time.monotonic()
    with cache.locked(tmp_path / "x"):
        assert time.monotonic() - started < 5


def test_threads_of_one_process_wait_for_each_other(tmp_path):
    inside: list[str] = []

    def work(name: str) -> None:
        for _ in range(3):
            with cache.locked(tmp_path / "x"):
                inside.append(name)
                time.sleep(0.01)
                inside.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(inside) == 12
    assert inside[::2] == inside[1::2]


def test_a_failed_make_leaves_nothing_and_can_be_repeated(cache_folder):
    def fail(part):
        part.mkdir()
        (part / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.build_once("entry", fail)
    assert not cache_folder.exists() or not list(cache_folder.iterdir())
    assert cache.build_once("entry", lambda part: part.mkdir()).is_dir()


def test_what_a_killed_process_left_half_made_is_replaced(cache_folder):
    left = cache_folder / "entry.part"
    left.mkdir(parents=True)
    (left / "half").write_text("x")
    made = cache.build_once("entry", lambda part: part.mkdir())
    assert list(made.iterdir()) == []
    assert not left.exists()


def test_a_maker_that_writes_nothing_is_refused():
    with pytest.raises(RuntimeError, match=r"maker of entry returned without writing .*entry\.part"):
        cache.build_once("entry", lambda part: None)


@pytest.mark.parametrize("key", ["/etc/x", "../x", "a/../../x", ""])
def test_a_key_that_leaves_the_folder_is_refused(key):
    with pytest.raises(ValueError, match="must be a relative path that stays inside"):
        cache.build_once(key, lambda part: part.mkdir())


def test_a_full_disk_is_refused_before_anything_is_made(cache_folder):
    with pytest.raises(
        OSError, match=r"needs 1,000,000,000,000 MB; .* MB free\. Free some space, or set TAXO"
    ):
        cache.build_once("entry", lambda part: pytest.fail("made"), bytes_needed=10**18)
    assert not (cache_folder / "entry").exists()


def test_a_refused_block_takes_its_lock_and_its_empty_folders_away_and_no_more(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="refused"), cache.locked(tmp_path / "there" / "run" / "a" / "table"):
        raise ValueError("refused")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    with cache.locked(tmp_path / "there" / "run" / "a" / "table"):
        pass
    with pytest.raises(ValueError, match="refused"), cache.locked(tmp_path / "there" / "run" / "a" / "table"):
        raise ValueError("refused")
    assert [path.name for path in tmp_path.rglob("*.lock")] == ["table.lock"]


def test_what_a_failed_block_wrote_stays(tmp_path):
    with suppress(KeyError), cache.locked(tmp_path / "b" / "table"):
        (tmp_path / "b" / "part").write_text("kept")
        raise KeyError
    assert (tmp_path / "b" / "part").read_text() == "kept"


def test_who_waits_for_a_lock_that_goes_is_alone_all_the_same(tmp_path):
    """The first fails and takes its lock away while the second waits; a third that comes then finds the second."""
    entered, fail, inside, most = threading.Event(), threading.Event(), [], []

    def first():
        with suppress(ValueError), cache.locked(tmp_path / "x"):
            entered.set()
            fail.wait(20)
            raise ValueError

    def other():
        with cache.locked(tmp_path / "x"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=first)]
    threads[0].start()
    entered.wait(20)
    threads += [threading.Thread(target=other) for _ in range(4)]
    for thread in threads[1:]:
        thread.start()
    time.sleep(0.1)
    fail.set()
    threads += [threading.Thread(target=other) for _ in range(4)]
    for thread in threads[5:]:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert most == [1] * 8
