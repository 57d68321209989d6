"""Stage 0: one recording, good and bad."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from superbench import audio
from superbench.contracts import Crop, Row, Utterance
from superbench.errors import DataError

RATE = 16000
FORMATS = [("wav", "WAV", "PCM_16"), ("wav", "RF64", "PCM_16"), ("flac", "FLAC", "PCM_16"), ("ogg", "OGG", "VORBIS")]


@pytest.fixture
def noise():
    return (np.random.default_rng(0).standard_normal(RATE) * 0.1).astype("float32")


@pytest.fixture
def write(tmp_path, noise):
    def write(name="a.wav", samples=noise, rate=RATE, **kind):
        soundfile.write(tmp_path / name, samples, rate, **kind)
        return tmp_path / name

    return write


def look_at_all(path, *, start=None, end=None, crop=None, rate=RATE, resample=False, gain_db=0.0):
    """Every recording that is found, and the kinds and the words of the problems."""
    recordings, problems = audio.inspect(
        Row(id="u1", path=path, start=start, end=end, crop=crop, where="m.csv:2"),
        rate=rate,
        resample=resample,
        gain_db=gain_db,
    )
    assert isinstance(recordings, tuple)
    assert (recordings == ()) == any(p.severity == "error" for p in problems)
    assert all(p.where == f"u1 (m.csv:2: {path})" and str(path) not in p.what for p in problems)
    return recordings, [p.kind for p in problems], " ".join(p.what for p in problems)


def look(path, **more):
    """The one recording of a row that asks for no crops; None where there is an error."""
    recordings, kinds, what = look_at_all(path, **more)
    assert len(recordings) <= 1
    return (recordings[0] if recordings else None), kinds, what


def utterance(recording, **changes):
    facts = {
        name: getattr(recording, name)
        for name in ("path", "start", "stop", "native_rate", "samples", "rate", "content", "gain_db")
    }
    return Utterance(id="u1", split="train", fold="", speaker="", labels={}, reference="x", **{**facts, **changes})


def test_files_with_the_same_fault_get_the_same_words_at_their_own_places(write, tmp_path):
    paths = [write(f"{number}.wav", rate=8000) for number in range(2)] + [tmp_path / "none.wav", tmp_path / "no.wav"]
    rows = [Row(id=path.stem, path=path, where=str(path)) for path in paths]
    found = [audio.inspect(row, rate=RATE, resample=False)[1][0] for row in rows]
    assert len({problem.what for problem in found}) == 2
    assert [problem.where for problem in found] == [f"{path.stem} ({path})" for path in paths]  # the path once


def test_a_good_file_gives_its_facts_and_its_samples(write, noise):
    path = write(subtype="FLOAT")
    recording, kinds, _ = look(path)
    assert kinds == []
    assert (recording.start, recording.stop, recording.samples, recording.native_rate) == (0, RATE, RATE, RATE)
    assert recording.content == hashlib.sha256(noise.astype("<f4").tobytes()).hexdigest()
    assert (recording.resampler, recording.gain_db) == ("", 0.0)
    samples = audio.read(utterance(recording))
    assert samples.dtype == np.float32
    assert np.array_equal(samples, noise)


def test_the_name_plays_no_part_in_what_a_file_is(write, noise):
    path = write("a.wav", format="FLAC")
    assert look(path)[1] == []
    path = path.rename(path.with_suffix(".raw"))
    assert look(path)[1] == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 15000), length=st.integers(400, 15000), kind=st.sampled_from(FORMATS))
def test_a_window_is_the_slice_of_the_whole(tmp_path, noise, start, length, kind):
    suffix, name, subtype = kind
    path = tmp_path / f"{name}.{suffix}"
    if not path.exists():
        soundfile.write(path, noise, RATE, format=name, subtype=subtype)
    whole = audio.read_file(path, rate=RATE, resample=False)
    stop = min(start + length, RATE)
    found, _ = audio.inspect(Row(id="u", path=path, start=start / RATE, end=stop / RATE), rate=RATE, resample=False)
    if stop > RATE - 16:
        stop = RATE  # within 1 ms of the end
    if stop - start < 400:
        assert found == ()
    else:
        (recording,) = found
        assert (recording.start, recording.stop) == (start, stop)
        assert np.array_equal(audio.read(utterance(recording)), whole[start:stop])


def test_an_end_within_a_millisecond_of_the_end_is_the_end(write):
    path = write(samples=np.linspace(0, 0.5, 3301, dtype="float32"), rate=8000)  # 0.412625 s, written 0.413 or 0.412
    for end in (0.413, 0.412, None):
        assert look(path, start=0.0, end=end, resample=True)[0].stop == 3301
    assert look(path, start=0.0, end=0.411, resample=True)[0].stop == 3288
    assert look(path, start=0.0, end=0.415, resample=True)[1] == ["window"]


def test_times_of_the_dialog_beside_the_cut_sentence(write):
    path = write(samples=np.linspace(0, 0.5, 2 * RATE, dtype="float32"))
    recording, kinds, what = look(path, start=1.5, end=3.5)
    assert kinds == ["already-cut"]
    assert (recording.start, recording.stop) == (0, 2 * RATE)
    assert "1.5" in what
    assert "3.5" in what
    assert look(path, start=1.5, end=3.5019)[1] == ["already-cut"]
    assert look(path, start=1.5, end=3.503)[1] == ["window"]
    assert look(path, start=0.5, end=1.5)[0].samples == RATE  # these times fit the file, so they are the file's


@pytest.mark.parametrize(
    ("start", "end"),
    [(-0.1, 0.5), (0.5, 0.5), (0.5, 0.4), (0.0, 1.5), (1.0, None), (5.0, 5.5), (float("nan"), None), (0, float("inf"))],
)
def test_times_outside_the_file_are_errors_that_name_both(write, start, end):
    _, kinds, what = look(write(), start=start, end=end)
    assert kinds == ["window"]
    assert f"start {start}" in what
    assert f"end {end}" in what


def test_a_window_without_a_sample_is_empty(write):
    assert look(write(), start=0.50001, end=0.50002)[1] == ["empty"]


def test_what_is_no_file_is_refused_unopened(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")  # opening it would wait for ever
    (tmp_path / "folder.wav").mkdir()
    assert look(tmp_path / "pipe.wav")[1] == ["not-a-file"]
    assert look(tmp_path / "folder.wav")[1] == ["not-a-file"]
    assert look(tmp_path / "none.wav")[1] == ["missing"]
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    assert look(tmp_path / "zero.wav")[1] == ["not-a-file"]


def test_what_is_no_sound_is_unreadable(tmp_path):
    (tmp_path / "text.wav").write_text("this is no sound at all\n" * 100)
    (tmp_path / "nothing.wav").write_bytes(b"")
    (tmp_path / "riff.wav").write_bytes(b"RIFF")
    assert look(tmp_path / "text.wav")[1] == ["unreadable"]
    assert look(tmp_path / "nothing.wav")[1] == ["empty"]
    assert look(tmp_path / "riff.wav")[1] == ["unreadable"]


@pytest.mark.parametrize(("suffix", "kind", "subtype"), [*FORMATS, ("wav", "WAVEX", "FLOAT"), ("wav", "WAV", "PCM_24")])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.999])
def test_a_file_cut_off_anywhere_is_an_error(write, suffix, kind, subtype, share):
    path = write(f"a.{suffix}", format=kind, subtype=subtype)
    assert look(path)[1] == []
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert look(path)[1] in (["truncated"], ["unreadable"])


def test_a_truncated_wav_is_an_error_even_in_the_part_that_is_there(write):
    path = write()
    path.write_bytes(path.read_bytes()[:-2])
    assert look(path, start=0.0, end=0.5)[1] == ["truncated"]


def test_chunks_around_the_sound_do_not_count_as_sound(write):
    path = write()
    content = path.read_bytes()
    odd = b"LIST" + (3).to_bytes(4, "little") + b"abc\0"
    path.write_bytes(content[:12] + odd + content[12:] + odd)
    assert look(path)[0].samples == RATE


def test_formats_in_which_a_cut_off_file_cannot_be_told_are_refused(write):
    _, kinds, what = look(write("a.aiff"))
    assert kinds == ["format"]
    assert "FLAC" in what


def test_lengths(write):
    assert look(write(samples=np.zeros(0, dtype="float32")))[1] == ["empty"]
    assert look(write(samples=np.full(1, 0.1, dtype="float32")))[1] == ["too-short"]
    assert look(write(samples=np.linspace(0, 0.1, 399, dtype="float32")))[1] == ["too-short"]
    assert look(write(samples=np.linspace(0, 0.1, 400, dtype="float32")))[1] == []
    assert look(write(samples=np.linspace(0, 0.1, 200, dtype="float32"), rate=8000), resample=True)[1] == []
    hour = np.zeros(3601 * 100, dtype="uint8").astype("int16")
    long = write("long.wav", samples=hour, rate=100, subtype="PCM_U8")
    assert look(long, rate=100)[1] == ["too-long"]
    assert look(long, rate=100, start=3000.0, end=3300.0)[1] == ["constant"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_errors(write, noise, bad):
    noise[123] = bad
    assert look(write(samples=noise, subtype="FLOAT"))[1] == ["not-finite"]


def test_another_rate_needs_leave(write, noise):
    path = write(rate=8000, subtype="FLOAT")
    _, kinds, what = look(path)
    assert kinds == ["rate"]
    assert "8000" in what
    assert "--resample" in what
    recording, kinds, _ = look(path, resample=True)
    assert kinds == []
    assert recording.samples == 2 * RATE
    assert recording.resampler == f"soxr {soxr.__version__} HQ 8000->16000"
    samples = audio.read(utterance(recording))
    assert np.array_equal(samples, soxr.resample(noise, 8000, 16000, quality="HQ"))
    assert recording.content == hashlib.sha256(samples.tobytes()).hexdigest()


def test_stereo_is_never_averaged_and_everything_wrong_is_said(write, noise):
    path = write(samples=np.stack([noise, noise], axis=1), rate=8000)
    assert look(path, resample=True)[1] == ["stereo"]
    assert look(path)[1] == ["stereo", "rate"]


def test_warnings_keep_the_recording(write, noise):
    assert look(write(samples=np.zeros(RATE, dtype="float32")))[1] == ["constant"]
    assert look(write(samples=np.full(RATE, 0.25, dtype="float32")))[1] == ["constant"]
    noise[[5, 7, 9]] = 1.0  # peaks
    assert look(write(samples=noise))[1] == []
    noise[100:103] = (1.0, -1.0, 1.0)
    assert look(write(samples=noise))[1] == ["clipped"]


def test_a_file_that_changed_since_it_was_checked(write, noise):
    path = write()
    checked = utterance(look(path)[0])
    audio.read(checked)
    noise[500] += 0.01
    write(samples=noise)
    with pytest.raises(DataError, match="u1: the sound changed"):
        audio.read(checked)
    write(samples=noise[:8000])
    with pytest.raises(DataError, match="u1: the sound changed"):
        audio.read(checked)
    write(rate=8000)
    with pytest.raises(DataError, match="u1: the sound changed"):
        audio.read(checked)
    path.unlink()
    with pytest.raises(DataError, match="u1: the sound changed"):
        audio.read(checked)


@pytest.mark.parametrize("gain_db", [-3.0, 6.0, 40.0])
def test_a_gain_is_that_of_every_sample(gain_db, write, noise):
    path = write(subtype="FLOAT")
    recording, kinds, _ = look(path, gain_db=gain_db)
    assert (kinds, recording.gain_db) == ([], gain_db)
    fed = (noise.astype("float64") * 10 ** (gain_db / 20)).astype("float32")
    assert recording.content == hashlib.sha256(fed.tobytes()).hexdigest()
    samples = audio.read(utterance(recording))
    assert samples.dtype == np.float32
    assert np.array_equal(samples, fed)  # 40 dB takes them beyond 1: nothing is clipped
    with pytest.raises(DataError, match="u1: the sound changed"):
        audio.read(utterance(recording, gain_db=0.0))


def test_a_gain_comes_after_the_resampling(write, noise):
    path = write(rate=8000, subtype="FLOAT")
    recording, _, _ = look(path, resample=True, gain_db=-3.0)
    plain = soxr.resample(noise, 8000, 16000, quality="HQ")
    assert np.array_equal(
        audio.read(utterance(recording)), (plain.astype("float64") * 10 ** (-3 / 20)).astype("float32")
    )


def test_what_is_said_of_a_sound_is_said_of_the_file_whatever_the_gain(write, noise):
    noise[100:103] = (1.0, -1.0, 1.0)
    assert look(write(samples=noise), gain_db=-20.0)[1] == ["clipped"]
    assert look(write(samples=noise * 0.5), gain_db=20.0)[1] == []


def places_by_hash(id_, bank, places):
    """First samples of crops, worked out beside the product: 64 bits of a hash of the id and the crop's number."""
    digests = [hashlib.sha256(f"{id_}#{number}".encode()).hexdigest() for number in range(bank)]
    return [int(digest[:16], 16) % places for digest in digests]


def test_places_of_crops_stay_what_they_were():
    # Frozen: another place is another score.
    assert audio.crop_starts("id10001/aa/00001", 240000, 128000, 4) == [41885, 62291, 34658, 47500]
    assert audio.crop_starts("u1", 16000, 16000, 4) == audio.crop_starts("u1", 1, 16000, 4) == [0]
    assert set(audio.crop_starts("u1", 16001, 16000, 64)) == {0, 1}  # the last place is one of them


@given(id_=st.text(max_size=8), samples=st.integers(1, 10**6), size=st.integers(1, 10**6), bank=st.integers(1, 8))
def test_crops_lie_within_the_recording_and_a_larger_bank_only_adds_some(id_, samples, size, bank):
    starts = audio.crop_starts(id_, samples, size, bank)
    if samples <= size:
        assert starts == [0]
        return
    assert starts == places_by_hash(id_, bank, samples - size + 1)
    assert all(0 <= start <= samples - size for start in starts)
    assert audio.crop_starts(id_, samples, size, bank + 1)[:bank] == starts


def test_a_bank_of_crops_is_one_recording_per_place(write, noise):
    path = write(subtype="FLOAT")
    crops, kinds, _ = look_at_all(path, crop=Crop(seconds=0.25, bank=5))
    starts = places_by_hash("u1", 5, 12001)
    assert kinds == []
    assert [(c.start, c.stop, c.samples) for c in crops] == [(s, s + 4000, 4000) for s in starts]
    for crop in crops:
        samples = audio.read(utterance(crop))
        assert np.array_equal(samples, noise[crop.start : crop.stop])
        assert crop.content == hashlib.sha256(samples.tobytes()).hexdigest()


def test_crops_of_a_window_stay_within_it(write, noise):
    path = write(subtype="FLOAT")
    crops, _, _ = look_at_all(path, start=0.5, end=0.8, crop=Crop(seconds=0.25, bank=5))
    assert [c.start - 8000 for c in crops] == places_by_hash("u1", 5, 801)
    assert all(np.array_equal(audio.read(utterance(c)), noise[c.start : c.stop]) for c in crops)


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_what_is_no_longer_than_a_crop_is_used_whole(write, noise, seconds):
    (whole,), kinds, _ = look_at_all(write(subtype="FLOAT"), crop=Crop(seconds=seconds, bank=5))
    assert (kinds, whole.start, whole.stop) == ([], 0, RATE)
    assert np.array_equal(audio.read(utterance(whole)), noise)


def test_crops_are_cut_at_the_rate_of_the_file(write, noise):
    path = write(rate=8000, subtype="FLOAT")  # two seconds
    crops, _, _ = look_at_all(path, resample=True, gain_db=-3.0, crop=Crop(seconds=0.5, bank=3))
    assert [c.start for c in crops] == places_by_hash("u1", 3, 12001)
    assert [(c.stop - c.start, c.samples, c.resampler != "") for c in crops] == [(4000, 8000, True)] * 3
    for crop in crops:
        fed = soxr.resample(noise[crop.start : crop.stop], 8000, 16000, quality="HQ").astype("float64")
        assert np.array_equal(audio.read(utterance(crop)), (fed * 10 ** (-3 / 20)).astype("float32"))


def test_what_is_wrong_with_a_recording_leaves_no_crop_of_it(write, noise):
    noise[places_by_hash("u1", 4, 12001)[2]] = np.nan
    path = write(samples=noise, subtype="FLOAT")
    assert look_at_all(path, crop=Crop(seconds=0.25, bank=4))[:2] == ((), ["not-finite"])
    assert look_at_all(write(), crop=Crop(seconds=0.01, bank=4))[:2] == ((), ["too-short"])
    assert look_at_all(write(samples=np.full(RATE, 0.25, dtype="float32")), crop=Crop(seconds=0.25, bank=4))[1] == [
        "constant"
    ]  # of the whole, and once


def test_reading_a_whole_file(write, noise):
    assert np.array_equal(audio.read_file(write(subtype="FLOAT"), rate=RATE, resample=False), noise)
    with pytest.raises(DataError, match=r"a\.wav.*: rate: 8000 Hz in place of 16000 Hz") as caught:
        audio.read_file(write(rate=8000), rate=RATE, resample=False)
    assert "--resample" in caught.value.hint
    assert len(audio.read_file(write(rate=8000), rate=RATE, resample=True)) == 2 * RATE


def test_the_data_stages_load_nothing_heavy():
    heavy = ("torch", "torchaudio", "pandas", "sklearn", "transformers", "sqlalchemy", "pydantic", "numpy", "soundfile")
    code = (
        "import sys, superbench.audio, superbench.corpus, superbench.manifest, superbench_tasks;"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
