"""`trtcal optimize` and `trtcal report` as commands."""

import json

import pytest

from tests.trtcal.optimizing import digits_job


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    job = digits_job(tmp_path_factory.mktemp("job"))
    return [
        "optimize",
        job["model"],
        "--images",
        job["images"],
        "--test-images",
        job["test_images"],
        "--preprocess",
        "unit",
    ]


def test_a_dry_run_writes_nothing_and_says_what_would_be_done(command, words, tmp_path):
    code, out, err = command(*words, "-o", tmp_path / "out", "--dry-run")
    assert code == 0 and not (tmp_path / "out").exists()
    lines = out.splitlines()
    assert lines[0].startswith("calibrate on 64 images") and "about" in lines[0]
    assert sum(line.startswith("build the ") for line in lines) == 3
    assert "only if the bound of 1 is missed: recovery: time unknown" in lines
    assert "a float pass takes" in err
    code, out, _ = command(*words, "-o", tmp_path / "out", "--dry-run", "--json")
    assert code == 0 and json.loads(out)["stages"][0]["stands"] is False


def test_it_decides_reports_and_stands(command, words, tmp_path):
    folder = tmp_path / "out"
    code, out, _ = command(*words, "-o", folder, "--max-drop", "5")
    assert code == 0
    assert "int8 is the cheapest that holds the bound" in out
    assert "still to be measured on a GPU: trtcal benchmark" in out
    code, out, _ = command(*words, "-o", folder, "--max-drop", "5", "--json")
    said = json.loads(out)
    assert code == 0 and said["chosen"] == "int8" and said["steps"][0]["reused"] is True
    code, out, _ = command(*words, "-o", folder, "--max-drop", "5", "--dry-run")
    assert "stands" in out.splitlines()[0]
    (folder / "report.html").unlink()
    code, out, err = command("report", folder)
    assert code == 0 and (folder / "report.html").is_file()
    assert "report.json: report.json of trtcal optimize" in err


def test_where_none_holds_the_exit_code_is_1_and_all_is_written(command, words, tmp_path):
    folder = tmp_path / "out"
    code, _, err = command(*words, "-o", folder, "--max-drop", "0", "--precisions", "int8", "--confidence", "0.25")
    said = json.loads((folder / "report.json").read_text())["verdict"]
    assert code == (0 if said["holds"] else 1)
    assert ("no candidate holds the bound" in err) == (not said["holds"])
    assert (folder / "digits.engine").is_file()
