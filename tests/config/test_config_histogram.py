"""Histograms from CSV files."""

import pytest

from simai_rules.config.histogram import read_histogram
from simai_rules.errors import ConfigError


def test_values_and_probabilities(tmp_path):
    path = tmp_path / "times.csv"
    path.write_bytes(b"\xef\xbb\xbfvalue, probability\r\n\r\n 0.5, 0.25\r\n1e-1,0.75\r\n\r\n")
    histogram = read_histogram(path)
    assert histogram.values == [0.5, 0.1]
    assert histogram.probabilities == [0.25, 0.75]


def test_rounded_probabilities_are_fine(tmp_path):
    path = tmp_path / "times.csv"
    path.write_text("value,probability\n1,0.333\n2,0.333\n3,0.3335\n")
    assert len(read_histogram(path).values) == 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ["is empty", "value,probability"]),
        ("\n \n", ["is empty"]),
        ("1,0.5\n2,0.5\n", ["line 1", "'1,0.5'", "value,probability"]),
        ("value;probability\n1;1\n", ["line 1", "'value;probability'"]),
        ("value,probability\n", ["no bins"]),
        ("value,probability\n\n1,0.5\nx,0.5\n", ["line 4", "'x,0.5'", "not two numbers"]),
        ("value,probability\n1,0.5,3\n", ["line 2", "not two numbers"]),
        ("value,probability\n1\n", ["line 2", "not two numbers"]),
        ("value,probability\n-1,1\n", ["line 2", ">= 0"]),
        ("value,probability\n1,nan\n", ["line 2", "not finite"]),
        ("value,probability\n1,0.5\n2,0.4\n", ["add up to 0.9", "Divide each of them by their sum"]),
        ("value,probability\n1,10\n2,30\n", ["add up to 40", "these look like counts"]),
        ("value,probability\n0,1\n", ["every value that can be drawn is 0"]),
        ("value,probability\n" + "1,0.001\n" * 1001, ["1001 bins", "Rebin"]),
    ],
)
def test_message(tmp_path, content, expected):
    path = tmp_path / "times.csv"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_histogram(path)
    assert "times.csv" in str(caught.value)
    for part in expected:
        assert part in str(caught.value)


def test_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="there is no such histogram file"):
        read_histogram(tmp_path / "no.csv")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_histogram(tmp_path)
    (tmp_path / "b.csv").write_bytes(b"value,probability\n\xff,1\n")
    with pytest.raises(ConfigError, match=r"b\.csv: cannot be read"):
        read_histogram(tmp_path / "b.csv")
