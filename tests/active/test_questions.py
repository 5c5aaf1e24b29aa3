"""queries.csv: what is written can be read back, whatever the names."""

from ssl_jax.active import questions
from ssl_jax.data import answers


def test_names_that_are_no_utf8_go_and_come_back(tmp_path):
    path = tmp_path / "queries.csv"
    asked = {"image": "\udce9, t\udcff.png", "predicted": "é", "label": ""}
    questions.write(path, {"\udce8.png": "é"}, [asked])
    assert b'\n"\xe9, t\xff.png",\xc3\xa9,' in path.read_bytes()
    first, second = answers.rows(path)
    assert (first.image, first.label) == ("\udce8.png", "é")
    assert (second.image, second.label) == (asked["image"], "")
    assert questions.answered(str(path)) == {"\udce8.png": "é"}
