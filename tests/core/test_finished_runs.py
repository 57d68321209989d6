"""A finished run is read back only where every byte of its folder is what was written."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from superbench.contracts import FeatureCount, Prediction, Provenance, Result, Score, canonical_json, sha256_of
from superbench.errors import IntegrityError
from superbench.results import RESULT, SCHEMA, prediction_lines, read_result, write_files, write_result

PREDICTIONS = [
    Prediction(id="b", reference="ja", hypothesis="nein"),
    Prediction(id="a", reference="schön", hypothesis="schön"),
]
SCORE = Score(metric="accuracy", value=0.5, numerator=1, denominator=2, direction="max", counts={"utterances": 2})


def result_of(folder, files):
    return Result(
        schema=SCHEMA,
        run_id="0" * 64,
        group="9" * 64,
        label="custom",
        departures=(),
        task="ks",
        task_version="1.2",
        protocol_sha="a" * 64,
        upstream="fbank",
        upstream_plugin=Provenance(plugin="upstreams"),
        upstream_key="b" * 64,
        seed=0,
        lr=1e-05,
        layers="all",
        head="mean_linear",
        scores=(SCORE,),
        dev_scores=(SCORE,),
        train_scores=(),
        fold_scores={},
        candidates=(),
        layer_weights={"all": (1.0,)},
        layer_weights_norm_corrected={"all": (1.0,)},
        features=FeatureCount(form="pooled", segments=2, computed=2, reused=0, bytes=8, seconds=0.5),
        data={"sha": "d" * 64},
        plan={"task": "ks"},
        environment={},
        timings={"score": 0.25},
        finished="2026-01-02T03:04:05+00:00",
        folder=str(folder),
        files=files,
    )


@pytest.fixture
def finished(tmp_path):
    """The folder of a finished run, and its result."""
    folder = tmp_path / "seed0"
    files = write_files(folder, {"predictions.jsonl": prediction_lines(PREDICTIONS), "head.safetensors": b"\x01\x02"})
    result = result_of(folder, files)
    write_result(folder, result)
    return folder, result


def test_what_is_written_is_read_back(finished):
    folder, result = finished
    assert read_result(folder) == result
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a", "b"]
    assert result.files == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("predictions.jsonl", "head.safetensors")
    }


def test_the_checksum_is_the_hash_of_everything_else(finished):
    folder, _ = finished
    data = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    checksum = data.pop("checksum")
    assert checksum == sha256_of(data)
    assert "checksum" not in read_result(folder).to_json()


def test_a_flipped_bit_of_each_byte_of_a_result_is_found(finished):
    folder, result = finished
    path = folder / RESULT
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(IntegrityError) as caught:
            read_result(folder)
        assert (caught.value.exit_code, bool(caught.value.hint)) == (7, True)
        assert str(path) in caught.value.message
    path.write_bytes(whole)
    assert read_result(folder) == result


@pytest.mark.parametrize(
    ("rewrite", "said"),
    [
        (lambda data: json.dumps(data, indent=1), "its checksum does not fit"),
        (canonical_json, "its checksum does not fit"),  # without the end of its line
        (lambda data: canonical_json({**data, "seed": 1}) + "\n", "its checksum does not fit"),
        (lambda data: canonical_json({k: v for k, v in data.items() if k != "checksum"}), "its checksum does not fit"),
        (lambda data: json.dumps({**data, "seed": float("nan")}), "its checksum does not fit"),
        (lambda data: canonical_json(data)[:-9], "is damaged: "),
        (lambda data: "[]", "is damaged: "),
        (lambda data: "", "is damaged: "),
        (lambda data: canonical_json({**data, "schema": 1}), "has schema 1, this superbench reads 2"),
    ],
)
def test_a_result_that_was_written_anew_is_refused(rewrite, said, finished):
    folder, _ = finished
    path = folder / RESULT
    path.write_text(rewrite(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
    with pytest.raises(IntegrityError) as caught:
        read_result(folder)
    assert said in caught.value.message
    assert str(path) in caught.value.message


def test_a_field_of_a_wrong_type_is_refused_though_the_checksum_fits(finished):
    folder, _ = finished
    path = folder / RESULT
    data = json.loads(path.read_text(encoding="utf-8"))
    del data["checksum"], data["scores"]
    path.write_text(canonical_json({**data, "checksum": sha256_of(data)}) + "\n", encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"is damaged: (.|\n)*scores"):
        read_result(folder)


def test_every_file_beside_it_is_looked_at_and_all_damage_is_named(finished):
    folder, result = finished
    head, predictions = folder / "head.safetensors", folder / "predictions.jsonl"
    head.write_bytes(b"\x01\x03")
    with pytest.raises(IntegrityError, match=r"damaged: \S*head\.safetensors is not what was written\n"):
        read_result(folder)
    predictions.unlink()
    with pytest.raises(IntegrityError) as caught:
        read_result(folder)
    assert f"{head} is not what was written" in caught.value.message
    assert f"{predictions} cannot be read: No such file" in caught.value.message
    assert caught.value.hint == "move its folder away and run the command again"
    write_files(folder, {"predictions.jsonl": prediction_lines(PREDICTIONS), "head.safetensors": b"\x01\x02"})
    assert read_result(folder) == result


def test_a_folder_that_was_moved_is_read_where_it_is(finished):
    folder, result = finished
    moved = folder.with_name("moved")
    shutil.move(folder, moved)
    assert read_result(moved) == result
