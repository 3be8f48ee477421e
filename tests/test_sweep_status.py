"""`recsys-dl sweep status` of a folder that is no sweep says where to look."""

import json

import pytest

from recsys_dl.cli import main


@pytest.mark.parametrize(
    ("holds", "asked", "said"),
    [
        ("study.json", "tu", "it is the study tu, whose trials are in tu/trials.csv"),
        ("study.json", "tu/a", "it is in the study tu, whose trials are in tu/trials.csv"),
        ("sweep.json", "tu/trials/000", "it is in the sweep tu: recsys-dl sweep status tu"),
    ],
)
def test_status_of_a_folder_within(holds, asked, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / asked).mkdir(parents=True)
    (tmp_path / "tu" / holds).write_text(json.dumps({}))
    assert main(["sweep", "status", asked]) == 1
    assert f"{asked} is no sweep: {said}" in capsys.readouterr().err
