"""Many writers, full disks, read-only file systems and forbidden folders."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from model_registry.errors import ConflictError, ErasedError, NotFoundError, RegistryError, StorageError
from model_registry.store import Registry
from tests.model_registry.bundles import all_bytes, make_bundle, make_encoder
from tests.model_registry.nobody import allow_everything, as_nobody, folder_for_everybody
from tests.soak import SOAK

WRITERS, PUBLICATIONS, SLOTS = 16, 1000, 20


def _write(root: Path, out: Path, writer: int) -> None:
    for number in range(writer, PUBLICATIONS, WRITERS):
        slot = number % SLOTS
        modality = "gesture" if slot % 2 else "sound"
        bundle = make_bundle(out / str(writer), user=f"user{slot // 2}", modality=modality, run=f"r{number}")
        Registry(root).publish(bundle)
        shutil.rmtree(bundle)


def _read(root: Path, done: Event, faults: multiprocessing.Queue[str]) -> None:
    """Resolve and list until told to stop; a version once seen never goes back, and no version is ever partial."""
    store, newest, count = Registry(root), dict.fromkeys(range(SLOTS), 0), 0
    while not done.is_set():
        for slot in range(SLOTS):
            user, modality = f"user{slot // 2}", "gesture" if slot % 2 else "sound"
            try:
                found = store.resolve(user, modality)
                if found.version < newest[slot]:
                    faults.put(f"{user} went back from v{newest[slot]} to v{found.version}")
                newest[slot] = found.version
                list(store.entries(user=user))
                count += 1
            except NotFoundError:
                if newest[slot]:
                    faults.put(f"{user}/{modality} vanished")
            except RegistryError as error:
                faults.put(f"{type(error).__name__}: {error}")
    faults.put(f"read {count}")


@pytest.mark.slow
def test_16_writers_publish_1000_times_while_others_read(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    Registry(root).created()
    context = multiprocessing.get_context("fork")
    done, faults = context.Event(), context.Queue()
    readers = [context.Process(target=_read, args=(root, done, faults)) for _ in range(2)]
    writers = [context.Process(target=_write, args=(root, tmp_path / "out", n)) for n in range(WRITERS)]
    for process in (*readers, *writers):
        process.start()
    for process in writers:
        process.join(300)
    done.set()
    told = [faults.get(timeout=60) for _ in readers]
    for process in readers:
        process.join(60)
    assert [process.exitcode for process in (*writers, *readers)] == [0] * (WRITERS + len(readers))
    assert all(word.startswith("read ") and word != "read 0" for word in told) and faults.empty(), told
    store = Registry(root)
    entries = list(store.entries())
    assert len(entries) == PUBLICATIONS and len({entry.run_id for entry in entries}) == PUBLICATIONS
    for slot in range(SLOTS):
        user, modality = f"user{slot // 2}", "gesture" if slot % 2 else "sound"
        found = [entry.version for entry in entries if (entry.user_id, entry.modality) == (user, modality)]
        assert found == list(range(1, PUBLICATIONS // SLOTS + 1))
        assert store.resolve(user, modality).version == found[-1]
    assert all(fault is None for _, fault in store.verify_all())
    assert not store.reindex() and store.doctor() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 400 kB; needs the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", place], capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_refuses_at_any_point_and_the_next_attempt_works(small_disk: Path, tmp_path: Path) -> None:
    store = Registry(small_disk / "registry")
    store.publish(make_bundle(tmp_path, run="r0", model=b"m" * 50_000))
    before = all_bytes(store.root)
    bundle = make_bundle(tmp_path, run="r1", model=b"m" * 50_000)
    refused = 0
    filler = small_disk / "filler"
    for free in range(0, 140_000, 4096):  # a page more each time: another write is the first that fails
        filler.write_bytes(b"")
        disk = os.statvfs(small_disk)
        filler.write_bytes(b"x" * max(0, disk.f_bavail * disk.f_frsize - free))
        try:
            store.publish(bundle)
        except StorageError as error:
            refused += 1
            assert "make room" in str(error) and len(str(error).splitlines()) == 1
            assert store.resolve("user123", "gesture").version == 1
            assert {path: data for path, data in all_bytes(store.root).items() if "/." not in path} == before
        else:
            break
    assert refused >= 5
    filler.unlink()
    assert store.publish(bundle).version == 2
    assert store.resolve("user123", "gesture").version == 2
    assert all(finding.mended for finding in store.doctor()) and store.doctor() == []
    assert len(list(store.entries())) == 2


def test_a_read_only_file_system_can_be_read_and_says_why_it_takes_nothing(small_disk: Path, tmp_path: Path) -> None:
    store = Registry(small_disk / "registry")
    store.publish(make_bundle(tmp_path, run="r0"))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    bundle = make_bundle(tmp_path, run="r1", encoder_refs=[make_encoder(tmp_path)])
    for act in (
        lambda: store.publish(bundle),
        lambda: store.rollback("user123", "gesture", "x"),
        lambda: store.archive("user123", "gesture", 1, withdraw=True),
        lambda: store.erase("user123", "asked for"),
    ):
        with pytest.raises(RegistryError) as caught:
            act()
        assert isinstance(caught.value, StorageError) or "no version was active before" in str(caught.value)
    assert store.resolve("user123", "gesture").version == 1 and next(iter(store.verify_all()))[1] is None
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert store.publish(bundle).version == 2


def test_a_forbidden_folder_is_said_and_works_once_allowed() -> None:
    with folder_for_everybody() as place:
        store = Registry(place / "registry")
        store.publish(make_bundle(place, run="r0"))
        bundle = make_bundle(place, run="r1")
        folder = store.root / "users/user123/gesture"
        allow_everything(place)
        folder.chmod(0o555)
        refused = as_nobody(lambda: str(store.publish(bundle).version))
        assert refused.startswith("StorageError: publish: Permission denied") and "mount and permissions" in refused
        assert [entry.model_version for entry in store.entries()] == ["v1"]
        folder.chmod(0o777)
        assert as_nobody(lambda: str(store.publish(bundle).version)) == "2"
        assert store.resolve("user123", "gesture").version == 2


def _live(root: Path, out: Path, number: int, until: float, faults: multiprocessing.Queue[str]) -> None:
    """Publish, roll back, erase, readmit and read at random, as one of many processes; report what should not be."""
    dice, store, count = random.Random(number), Registry(root), 0
    allowed = (ErasedError, NotFoundError, ConflictError)  # somebody else was faster
    while time.time() < until:
        user, count = f"user{dice.randrange(6)}", count + 1
        try:
            match dice.randrange(8):
                case 0 | 1 | 2:
                    bundle = make_bundle(out / str(number), user=user, run=f"r{number}_{count}")
                    store.publish(bundle)
                    shutil.rmtree(bundle)
                case 3:
                    store.rollback(user, "gesture", "worse")
                case 4:
                    store.erase(user, "asked for")
                    store.readmit(user, "agreed again")
                case 5:
                    store.doctor()
                case _:
                    store.resolve(user, "gesture")
                    list(store.entries(on_damage=lambda damage: faults.put(str(damage))))
        except allowed:
            continue
        except Exception as error:
            faults.put(f"{type(error).__name__}: {error}")


@pytest.mark.slow
def test_publishing_erasing_and_reading_at_once_leave_a_sound_registry(tmp_path: Path) -> None:
    root, context = tmp_path / "registry", multiprocessing.get_context("fork")
    Registry(root).created()
    faults, until = context.Queue(), time.time() + (60 if SOAK else 5)
    processes = [context.Process(target=_live, args=(root, tmp_path, n, until, faults)) for n in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * 8
    assert faults.empty(), faults.get()
    store = Registry(root)
    assert all(finding.mended for finding in store.doctor()) and store.doctor() == []
    assert [(name, fault) for name, fault in store.verify_all() if fault is not None] == []
