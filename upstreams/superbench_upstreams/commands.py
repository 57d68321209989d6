"""`superbench upstreams convert`: any checkpoint that is read here, as safetensors with a JSON configuration."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import click

from superbench.cli.output import echo_json
from superbench.errors import SuperbenchError


@click.group()
def upstreams() -> None:
    """Checkpoints of upstreams."""


@upstreams.command()
@click.argument("source", metavar="IN")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--base", default="", metavar="CHECKPOINT", help="For Spin: the encoder it was trained from.")
@click.option("--config", default="", metavar="JSON", help="For R-Spin: the encoder's settings.")
@click.option("--revision", default="", metavar="REVISION", help="Branch, tag or commit on the hub.")
@click.option(
    "--normalize",
    type=click.Choice(["auto", "true", "false"]),
    default="auto",
    help="Are waves brought to mean 0 and variance 1? Where the checkpoint says it wrongly or not at all.  [auto]",
)
@click.option("--json", "as_json", is_flag=True, help="What was written, as JSON.")
def convert(source: str, out: Path, *, base: str, config: str, revision: str, normalize: str, as_json: bool) -> None:
    """Write the checkpoint IN, of any format, as our own into the new folder OUT.

    IN is a file of fairseq, s3prl, unilm, Spin, R-Spin or Distiller, a folder of transformers or superbench, or a name
    on the hub. Nothing in it is executed, and every weight is accounted for.
    """
    from superbench_upstreams.checkpoints import read_checkpoint, write_checkpoint

    try:
        checkpoint = read_checkpoint(source, base=base, config=config, normalize=normalize, revision=revision)
    except SuperbenchError as error:  # readers speak of an upstream's options
        said = re.sub(r"\b(normalize|base|config)=", r"--\1 ", error.hint)
        raise type(error)(error.message, said) from error
    write_checkpoint(out, checkpoint)
    weights = sum(t.numel() for t in (*checkpoint.weights.values(), *checkpoint.extras.values()))
    reference = f"{checkpoint.family}:checkpoint={out}"
    if as_json:
        told = {"family": checkpoint.family, "format": checkpoint.format, "config": asdict(checkpoint.config)}
        echo_json({**told, "settings": checkpoint.settings, "numbers": weights, "upstream": reference})
    else:
        click.echo(
            f"{source}: {checkpoint.family}, as {checkpoint.format} writes it; {weights:,} numbers\n"
            f"now: superbench check --upstream {reference}"
        )
