"""CSV manifests: what is read, what is refused, and that everything wrong is said at once."""

import csv
import io
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from superbench.errors import DataError
from superbench.manifest import read_manifests


@pytest.fixture
def manifest(tmp_path):
    def manifest(text, name="m.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return manifest


def read(path, column="label", **options):
    return read_manifests([path], column=column, **options)


def refusal(path, column="label", **options):
    with pytest.raises(DataError) as caught:
        read(path, column, **options)
    return caught.value


def test_every_column_is_kept_as_text(manifest, tmp_path):
    path = manifest("path,split,label,speaker,start,end,take\r\na/x.wav,train,NA,0005,0.50,1.25,01\r\n")
    found = read(path)
    (row,) = found.rows
    assert row.id == "a/x"
    assert row.path == tmp_path / "a/x.wav"
    assert (row.split, row.fold, row.speaker, row.start, row.end) == ("train", "", "0005", 0.5, 1.25)
    assert row.labels == {
        "path": "a/x.wav",
        "split": "train",
        "label": "NA",
        "speaker": "0005",
        "start": "0.50",
        "end": "1.25",
        "take": "01",
    }
    assert row.where == f"{path}:2"
    assert found.roots == (tmp_path,)
    assert found.left_out == 0


def test_a_mark_quotes_newlines_and_empty_lines(manifest):
    path = manifest(b'\xef\xbb\xbfpath,split,text\r\n\r\n"a,1.wav",train,"ONE ""TWO""\r\nTHREE"\r\nb.wav,dev,FOUR\r\n')
    first, second = read(path, "text").rows
    assert first.id == "a,1"
    assert first.labels["text"] == 'ONE "TWO"\r\nTHREE'
    assert second.where.endswith(":5")


def test_text_is_brought_to_nfc_and_a_path_is_not(manifest, tmp_path):
    decomposed = unicodedata.normalize("NFD", "é")
    (row,) = read(manifest(f"path,split,label\n{decomposed}.wav,train,{decomposed}\n")).rows
    assert row.id == row.labels["label"] == "é"
    assert row.path == tmp_path / f"{decomposed}.wav"


def test_an_id_column_wins_and_a_repeated_path_gets_its_times(manifest):
    lines = [",r.wav,train,a,0,1.5", ",./r.wav,train,b,1.5,3", "me,s.wav,dev,c,,", ",t.v.wav,test,d,,"]
    text = "\n".join(["id,path,split,label,start,end", *lines])
    assert [row.id for row in read(manifest(text)).rows] == ["r:0-1.5", "r:1.5-3", "me", "t.v"]


def test_a_label_column_leaves_rows_out_and_counts_them(manifest):
    path = manifest("path,split,label,label4\na.wav,train,x,hap\nb.wav,nonsense,y,\nc.wav,dev,z, \n")
    found = read(path, label_column="label4")
    assert [row.id for row in found.rows] == ["a"]
    assert found.left_out == 2
    assert "'label4' is empty" not in str(refusal(path))  # the default column is full; the split is wrong
    path = manifest("path,split,label\na.wav,train,\nb.wav,train,x\nc.wav,train, \n")
    message = refusal(path).message
    assert f"2 cases, {path}:2, {path}:4: column 'label' is empty" in message


def test_folds_win_over_splits_where_every_row_has_one(manifest):
    found = read(manifest("path,split,fold,label\na.wav,session1,1,x\nb.wav,train,2,x\n"))
    assert [(row.split, row.fold) for row in found.rows] == [("", "1"), ("", "2")]
    found = read(manifest("path,split,fold,label\na.wav,train,1,x\nb.wav,dev,,x\n"))
    assert [(row.split, row.fold) for row in found.rows] == [("train", ""), ("dev", "")]
    found = read(manifest("path,fold,label,label4\na.wav,1,x,x\nb.wav,,x,\n"), label_column="label4")
    assert [row.fold for row in found.rows] == ["1"]  # the row without a fold is left out


def test_unknown_splits_are_listed_at_once_with_a_suggestion(manifest):
    rows = "a.wav,trian,x\nb.wav,trian,x\nc.wav,Test,x\nd.wav,,x\ne.wav,dev,x\n"
    message = refusal(manifest("path,split,label\n" + rows)).message
    assert "m.csv:3: there is no split 'trian': did you mean 'train'?" in message
    assert "m.csv:4: there is no split 'Test': did you mean 'test'?" in message
    assert "m.csv:5: there is no split ''" in message
    assert message.startswith("4 problems")
    assert len(message.splitlines()) == 4


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x.wav",
        "a/../../x.wav",
        "..",
        "C:/x.wav",
        "link/x.wav",
        "",
        "ring",
        ".",
        "a/..",
        "sub",
        "sub/",
    ],
)
def test_paths_that_are_no_recordings_within_the_root(manifest, tmp_path, path):
    (tmp_path / "data").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "data/link").symlink_to(tmp_path / "other")
    (tmp_path / "data/sub").mkdir()
    (tmp_path / "data/ring").symlink_to(tmp_path / "data/ring")
    message = refusal(manifest(f"path,split,label\n{path},train,x\nok.wav,dev,x\n", "data/m.csv")).message
    assert "1 problems" in message
    assert f"m.csv:2 ({path!r}): the path" in message


def test_links_and_dots_within_the_root_are_fine(manifest, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    found = read(manifest("path,split,label\nb/x.wav,train,x\na/../y.wav,dev,x\n"))
    assert [row.path for row in found.rows] == [tmp_path / "b/x.wav", tmp_path / "y.wav"]
    assert [row.id for row in found.rows] == ["b/x", "y"]


def test_a_root_of_its_own(manifest, tmp_path):
    path = manifest("path,split,label\nx.wav,train,x\n")
    found = read(path, root=tmp_path / "sounds")
    assert found.roots == (tmp_path / "sounds",)
    assert found.rows[0].path == tmp_path / "sounds/x.wav"


def test_several_manifests_are_one_corpus(manifest, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = manifest("path,split,label\nx.wav,train,x\n", "a/m.csv")
    second = manifest("label,path,split\ny,x.wav,test\n", "b/m.csv")
    found = read_manifests([first, second], column="label")
    assert [(row.id, row.path, row.split) for row in found.rows] == [
        ("x", tmp_path / "a/x.wav", "train"),
        ("x", tmp_path / "b/x.wav", "test"),
    ]
    assert found.roots == (tmp_path / "a", tmp_path / "b")


def test_a_missing_column_names_the_nearest(manifest):
    error = refusal(manifest("path,split,labell\na.wav,train,x\n"))
    assert "no column 'label'" in error.message
    assert "did you mean 'labell'?" in error.hint
    error = refusal(manifest("file,label\na.wav,x\n"))
    assert "no column 'path'" in error.message
    assert "no column 'split'" in error.message
    error = refusal(manifest("path,split,label\na.wav,train,x\n"), label_column="label4")
    assert "no column 'label4'" in error.message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"path,split,label\na\0.wav,train,x\n", "NUL"),
        ("path,split,label\na.wav,train,x\n".encode("utf-16"), "it is UTF-16, not UTF-8"),
        (b"path,split,label\na.wav,train,\xff\n", "m.csv:2: not UTF-8"),
        (b"path,split,label,split\na.wav,train,x,dev\n", "named twice: 'split'"),
        (b"", "no header"),
        (b'path,split,label\n"a.wav,train,x\n', "unexpected end"),
        (b"path;split;label\na.wav;train;x\n", "the header is one column, 'path;split;label'"),
        (b"RIFF\x24\x08\0\0WAVEfmt \xff\n", "m.csv:1: a NUL character: this is no plain text"),
        ("path,split,label\n".encode("utf-16-le"), "NUL"),  # without a mark
    ],
)
def test_files_that_are_no_manifest(manifest, content, says):
    error = refusal(manifest(content))
    assert says in error.message
    assert error.hint


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_other_delimiters_are_named(manifest, mark, name):
    assert f"divided by {name}" in refusal(manifest(mark.join(["path", "split", "label"]) + "\n")).hint


def test_a_path_that_occurs_twice_needs_times_or_ids(manifest, tmp_path):
    def rows(*lines):
        return manifest("\n".join(["id,path,split,label,start,end", *lines]))

    message = refusal(
        rows(",r.wav,train,a,,", ",./r.wav,dev,b,0,", ",s.wav,train,a,1,2", ",s.wav,train,a,1.0,2")
    ).message
    assert message.startswith("2 problems")
    assert "2 cases" in message
    for place in ("m.csv:3 ('./r.wav', as in", "m.csv:5 ('s.wav', as in", "m.csv:4): the path is listed before"):
        assert place in message
    found = read(
        rows("x,r.wav,train,a,,", "y,r.wav,dev,b,,", ",s.wav,train,a,,", ",s.wav,train,a,1,", ",s.wav,dev,a,,9")
    )
    assert [row.id for row in found.rows] == ["x", "y", "s", "s:1-", "s:-9"]
    (tmp_path / "a").mkdir()
    within, above = (
        manifest("path,split,label\nx.wav,train,x\n", "a/m.csv"),
        manifest("path,split,label\na/x.wav,train,x\n"),
    )
    found = read_manifests([within, above], column="label")  # one recording under two roots: the corpus merges those
    assert [row.id for row in found.rows] == ["x", "a/x"]


def test_a_flood_is_grouped_by_cause_with_its_count_and_three_places(manifest):
    lines = [f"{number}.wav,train,{'' if number % 2 else 'x'},1:{number}" for number in range(900)]
    path = manifest("\n".join(["path,split,label,start", *lines, "/a.wav,train,x,"]))
    message = refusal(path).message
    assert message.startswith("901 problems")
    assert f"no-reference: 450 cases, the first {path}:3, {path}:5, {path}:7: column 'label' is empty" in message
    assert f"time: 450 cases, the first {path}:2 ('1:0'), {path}:4 ('1:2'), {path}:6 ('1:4'): start is not" in message
    assert f"path: {path}:902 ('/a.wav'): the path is absolute" in message
    assert len(message.splitlines()) == 4


def test_a_file_that_is_not_there(tmp_path):
    assert "cannot be read" in refusal(tmp_path / "none.csv").message


def test_every_wrong_line_is_said(manifest):
    text = "path,split,label,start,end\na.wav,train,x,0\n/b.wav,dvt,,1_0,\nc.wav,test,x,nan,-1\nd.wav,test,x,1e3,\n"
    message = refusal(manifest(text)).message
    for part in (
        "m.csv:2: 4 cells under 5 columns",
        "m.csv:3: column 'label' is empty",
        "m.csv:4 ('nan')",
        "m.csv:5 ('1e3'): start is not a time",
        "m.csv:4 ('-1'): end is not a time",
    ):
        assert part in message


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(st.tuples(texts.filter(str.strip), texts, texts), min_size=1, max_size=5))
def test_any_text_comes_back_as_it_was(tmp_path, cells):
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerow(["path", "split", "label", "speaker", "note"])
    for number, (label, speaker, note) in enumerate(cells):
        writer.writerow([f"{number}.wav", "train", label, speaker, note])
    path = tmp_path / "any.csv"
    path.write_bytes(file.getvalue().encode())
    rows = read(path).rows
    expected = [tuple(unicodedata.normalize("NFC", text) for text in row) for row in cells]
    assert [(row.labels["label"], row.speaker, row.labels["note"]) for row in rows] == expected
