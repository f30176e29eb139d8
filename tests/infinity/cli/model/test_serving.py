"""`infinity serve` refuses what it cannot serve before it loads a model."""

from typer.testing import CliRunner

from infinity.cli import app


def test_a_name_stands_for_one_adapter() -> None:
    result = CliRunner().invoke(app, ["serve", "models/none", "--lora", "x=a", "--lora", "x=b"])
    assert result.exit_code == 1
    assert "--lora: expected a name of its own for each adapter, got x, x" in " ".join(result.output.split())
