"""`superbench check`: does an upstream keep the promises that every number rests on?"""

from __future__ import annotations

from pathlib import Path

import click

from superbench.cli.output import echo_json, echo_table
from superbench.errors import UsageError
from superbench.session import Session, pass_session


@click.command()
@click.option("-u", "--upstream", required=True, metavar="NAME[:OPTION=VALUE,...]", help="Which encoder.")
@click.option("--resample", is_flag=True, help="Allow recordings of other rates.")
@click.option("--device", default="auto", metavar="DEVICE", help="cpu, cuda, cuda:1 or auto.  [auto]")
@click.option("--json", "as_json", is_flag=True, help="The findings, as JSON.")
@click.argument("sounds", nargs=-1, type=click.Path(path_type=Path), metavar="[SOUND]...")
@pass_session
def check(
    session: Session, /, *, upstream: str, resample: bool, device: str, as_json: bool, sounds: tuple[Path, ...]
) -> None:
    """Try every promise of an upstream on the SOUNDs, or on made ones, and say which are broken and by how much.

    \b
    superbench check -u fbank_no_cmvn
    superbench check -p mine.py -u mine:checkpoint=PATH a.wav b.wav

    Exit code 4 where a promise is broken; the table is printed all the same.
    """
    from superbench import conformance
    from superbench.conformance.report import COLUMNS
    from superbench.conformance.sounds import read_sounds
    from superbench.conformance.subject import stated_rate, states_rate
    from superbench.loading import choose_device, open_unprobed

    if resample and not sounds:
        raise UsageError("--resample is about recordings, and none was given", "leave it out, or give sound files")
    _, _, loaded = open_unprobed(upstream, session.registry, choose_device(device))
    any_rate = resample or not states_rate(loaded.upstream)  # without a rate only its facts are tried
    recordings = read_sounds(sounds, rate=stated_rate(loaded.upstream), resample=any_rate)
    report = conformance.check(loaded, recordings, session.progress)
    if as_json:
        echo_json(report.as_json())
    else:
        echo_table(report.caption, COLUMNS, report.rows)
        for mend in report.mends:
            click.echo(mend)
    report.raise_if_broken()
