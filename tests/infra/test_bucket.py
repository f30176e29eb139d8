"""A bucket is made once."""

import pytest

from infra.bucket import main, make_bucket


def test_a_bucket_is_made_and_then_left_alone(s3_endpoint: str) -> None:
    make_bucket("infinity-made")
    assert main(["infinity-made"]) == 0


def test_a_name_that_the_server_refuses_is_one_sentence(s3_endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["x"]) == 1
    assert "error: cannot make the bucket 'x'" in capsys.readouterr().err
    assert main([]) == 2
