"""`penstock profile`: where the time of a running group goes, per step."""

import click

from penstock.deploy.commands.options import json_option, told


@click.command()
@click.argument("module")
@click.option("--group", "name", required=True, help="The group whose worker to look at.")
@click.option("--slot", default="0", show_default=True, help="Which of its workers.")
@click.option("--data", envvar="PENSTOCK_DATA", type=click.Path(file_okay=False), help="Folder of the worker's tables.")
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(1), help="How long to look.")
@click.option("--flamegraph", type=click.Path(dir_okay=False), help="Write a flame graph (SVG), of as long again.")
@json_option
@told
def profile(
    module: str, name: str, slot: str, data: str | None, seconds: float, flamegraph: str | None, as_json: bool
) -> None:
    """Look at a running worker on this machine, and say where its time goes."""
    from pathlib import Path

    from penstock.deploy.commands.output import print_json, print_table
    from penstock.deploy.modules import load_pipeline
    from penstock.deploy.preflight import known_group
    from penstock.deploy.profiling import flame_graph, sampled, shares, worker_pid
    from penstock.deploy.settings import Settings

    topology = load_pipeline(module).topology
    group = known_group(topology, name)
    app_id = next(each.app_id for each in topology.groups if each.name == group)
    pid = worker_pid(Settings.of(data=data).data.absolute(), app_id, slot)
    found = shares(sampled(pid, seconds))
    if flamegraph is not None:
        flame_graph(pid, seconds, Path(flamegraph))
    if as_json:
        print_json([{**share._asdict(), "share": round(share.share, 4)} for share in found])
        return
    rows = [(share.what, "step" if share.is_step else "worker", f"{share.share:.1%}") for share in found]
    print_table(("where", "", "of its time"), rows, title=f"{app_id}, slot {slot}, process {pid}")
