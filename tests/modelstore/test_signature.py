"""Only models that a known key signed are served, whatever somebody who can write to the store does there."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from structlog.testing import capture_logs

from modelstore.artefact import MANIFEST, ArtefactError, write
from modelstore.registry import POINTER, Pointer, Registry
from modelstore.signature import SignatureError, SigningKey, Verifier, signature_name
from recsvc.local_files.model_cache import ModelCache
from recsvc.model.live_model import LiveModel
from recsvc.rollout.swap import ModelSwap
from servicekit.storage.object_store import FileStore
from tests.modelstore.support.artefacts import GOLDEN, reseal
from tests.recsvc.support.models import TRAINED_AT, random_model
from tests.recsvc.support.rollout import Bench

KEY: Final = SigningKey.generate()
OTHER: Final = SigningKey.generate()
FILES: Final = sorted(path.name for path in (GOLDEN / "format-1").glob("*.npy"))


def publish(store: Path, version: str, key: SigningKey | None = KEY) -> None:
    """Publish a model and make it live."""
    registry, folder = Registry(FileStore(store)), store.parent / "written" / version
    model = random_model(int(version), version=version)
    registry.publish(folder, write(model, folder), key)
    registry.activate(version, at=TRAINED_AT)


def point_to(store: Path, version: str) -> None:
    """Make the version live as it now is, as anybody can who may write to the store."""
    Registry(FileStore(store)).activate(version, at=TRAINED_AT)


def refusal(store: Path) -> str:
    """Return why the live model is not loaded."""
    registry = Registry(FileStore(store), KEY.verifier())
    current = registry.current()
    assert current
    with pytest.raises(ArtefactError) as caught:
        ModelSwap(ModelCache(registry, store.parent / "cache"), LiveModel(retry_after_s=1)).make_live(current[0])
    return caught.value.reason


def signature_of(folder: Path) -> Path:
    return folder / signature_name(hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A server that serves version 1 and knows one key."""
    made = Bench(tmp_path, KEY.verifier())
    publish(made.store, "1")
    made.watcher.poll()
    assert made.version == "1"
    return made


def assert_refused(bench: Bench, reason: str) -> None:
    """The new model is refused with one log line, one count and one event, and the old one serves."""
    with capture_logs() as logs:
        for _ in range(3):
            bench.watcher.poll()

    assert bench.version == "1"
    assert [(line["event"], line["reason"]) for line in logs] == [("model.refused", reason)]
    assert bench.refusals == [(f"reason:{reason}",)]
    assert len(bench.metrics.events) == 1


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two signed models. Leave it as it is."""
    store = tmp_path_factory.mktemp("signed") / "store"
    publish(store, "1")
    publish(store, "2")
    return store


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused_with_and_without_its_checksum(signed: Path, tmp_path: Path, name: str) -> None:
    """Checksums alone do not tell who made a file."""
    store = tmp_path / "store"
    shutil.copytree(signed, store)
    folder = store / "2"
    data, signature = (folder / name).read_bytes(), signature_of(folder).read_bytes()
    (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert refusal(store) == "checksum"

    reseal(folder, name)
    signature_of(folder).write_bytes(signature)
    point_to(store, "2")
    assert refusal(store) == "signature"


@pytest.mark.parametrize("change", [{"popularity_weight": 9.0}, {"version": "2x"}, {"parent": "1"}])
def test_a_changed_manifest_is_refused(bench: Bench, change: dict[str, object]) -> None:
    publish(bench.store, "2")
    folder = bench.store / "2"
    signature = signature_of(folder).read_bytes()
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | change))
    signature_of(folder).write_bytes(signature)
    point_to(bench.store, "2")

    assert_refused(bench, "signature")


def flip(signature: bytes) -> bytes:
    return (b"A" if signature[:1] != b"A" else b"B") + signature[1:]


@pytest.mark.parametrize("damage", [flip, lambda one: one[:-5], lambda _: b"", lambda _: b"\xff no base64 \0", None])
def test_a_damaged_or_missing_signature_is_refused(bench: Bench, damage: Callable[[bytes], bytes] | None) -> None:
    publish(bench.store, "2")
    path = signature_of(bench.store / "2")
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()

    assert_refused(bench, "signature")


@pytest.mark.parametrize("key", [None, OTHER])
def test_a_model_not_signed_by_a_known_key_is_refused(bench: Bench, key: SigningKey | None) -> None:
    publish(bench.store, "2", key)

    assert_refused(bench, "signature")


def test_the_signature_of_another_version_is_refused(bench: Bench) -> None:
    publish(bench.store, "2", None)
    shutil.copyfile(signature_of(bench.store / "1"), signature_of(bench.store / "2"))

    assert_refused(bench, "signature")


def test_a_signed_version_under_another_name_is_refused(bench: Bench) -> None:
    """The manifest that was signed holds the name."""
    shutil.copytree(bench.store / "1", bench.store / "2")
    pointer = json.loads((bench.store / POINTER).read_text())
    (bench.store / POINTER).write_text(json.dumps(pointer | {"version": "2"}))
    again = Bench(bench.store.parent, KEY.verifier())
    shutil.rmtree(bench.cache)

    error = again.watcher.poll()

    assert error is not None
    assert (again.version, error.reason) == ("", "version")


def test_files_are_not_downloaded_before_the_signature_is_known_to_be_good(bench: Bench, tmp_path: Path) -> None:
    publish(bench.store, "2", OTHER)
    for path in (bench.store / "2").glob("*.npy"):
        path.unlink()  # a download would fail for another reason

    assert_refused(bench, "signature")
    assert not (tmp_path / "cache" / "2").exists()


def test_a_local_copy_is_verified_as_well(bench: Bench) -> None:
    """After a restart, the pointer cannot be read, and somebody has changed the copy and the note of what was live."""
    folder = bench.cache / "1"
    np.save(folder / "video_biases.npy", np.zeros(60, np.float32))
    reseal(folder, "video_biases.npy")
    last = Pointer.model_validate_json((bench.cache / "last.json").read_bytes())
    sha256 = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    (bench.cache / "last.json").write_text(last.model_copy(update={"manifest_sha256": sha256}).model_dump_json())
    again = Bench(bench.store.parent, KEY.verifier())
    again.objects.down = True

    again.watcher.start()
    again.watcher.stop()

    assert again.version == ""
    assert len(again.refusals) == 1


def test_what_is_signed_later_is_served_from_then_on(tmp_path: Path) -> None:
    """A server that is given a key for the first time fetches the signatures of what it has."""
    bench = Bench(tmp_path)
    publish(bench.store, "1", None)
    bench.watcher.poll()
    Registry(FileStore(bench.store)).sign("1", KEY)

    again = Bench(tmp_path, KEY.verifier())
    again.watcher.poll()

    assert (again.version, again.refusals) == ("1", [])
    assert signature_of(again.cache / "1").exists()


@pytest.mark.process
def test_without_a_key_signed_and_unsigned_models_are_served(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for version, key in (("1", KEY), ("2", None)):
        publish(bench.store, version, key)
        bench.watcher.poll()

    assert bench.went_live == ["1", "2"]


@pytest.mark.process
def test_keys_are_changed_without_a_gap(tmp_path: Path) -> None:
    """While the old key's models are about, servers know both."""
    bench = Bench(tmp_path, Verifier.parse((KEY.public_pem() + OTHER.public_pem()).decode()))
    for version, key in (("1", KEY), ("2", OTHER)):
        publish(bench.store, version, key)
        bench.watcher.poll()

    assert bench.went_live == ["1", "2"]


def test_every_signature_ever_written_is_still_good() -> None:
    verifier = Verifier.parse((GOLDEN / "format-1.pub").read_text(encoding="utf-8"))
    manifest, signature = (GOLDEN / "format-1" / MANIFEST).read_bytes(), (GOLDEN / "format-1.sig").read_bytes()

    verifier.check(manifest, signature)
    with pytest.raises(SignatureError):
        verifier.check(manifest + b" ", signature)


def test_keys_survive_their_text() -> None:
    again = SigningKey.parse(KEY.private_pem().decode())

    Verifier.parse(KEY.public_pem().decode()).check(b"manifest", again.sign(b"manifest"))


@pytest.mark.parametrize("pem", ["", "secret words", KEY.public_pem().decode()])
def test_what_is_no_private_key_is_refused_without_being_quoted(pem: str) -> None:
    with pytest.raises(ValueError, match=r"^is not an unencrypted Ed25519 private key in PEM$"):
        SigningKey.parse(pem)


@pytest.mark.parametrize(
    "pem", ["", "words", KEY.private_pem().decode(), "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_what_is_no_public_key_is_refused(pem: str) -> None:
    with pytest.raises(ValueError, match=r"^holds (no|a key that is not an) Ed25519 public key"):
        Verifier.parse(pem)


def test_renewed_keys_count_from_then_on(tmp_path: Path) -> None:
    store = tmp_path / "store"
    publish(store, "1", OTHER)
    registry = Registry(FileStore(store), KEY.verifier())
    current = registry.current()
    assert current
    cache = ModelCache(registry, tmp_path / "cache")
    with pytest.raises(ArtefactError):
        cache.download(current[0])

    registry.trust(OTHER.verifier())
    cache.download(current[0])
