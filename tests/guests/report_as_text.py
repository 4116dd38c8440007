"""Reads reports as JSON from standard input, one on a line, and prints them as the text form says the same."""

import json
import sys

LISTED = 16


def count(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"


def escaped(name):
    return json.dumps(name, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f")


def module_lines(module):
    sites = module["sites"]
    is_memory = module["kind"] == "memory"
    if is_memory:
        title = "memory" + (" " + escaped(module["name"]) if module["name"] else "")
    else:
        title = f"{escaped(module['name'])} {module['start']:#x}-{module['end']:#x}"
    if not is_memory and module["mapped"] is False:
        title += ", unmapped"
    tactics = [(sites[key], key.replace("_", " ")) for key in ("short_jump", "eviction", "pun", "trap")]
    used = ", ".join(f"{number} by {name}" for number, name in tactics if number)
    line = f"  {title}: {count(sum(sites.values()), 'site')}" + (f" ({used})" if used else "")
    plausible, implausible = module["unproved"]["plausible"], module["unproved"]["implausible"]
    restorers = module["restorers"]
    left = [
        (restorers, "restorer" if restorers == 1 else "restorers"),
        (module["refused"], "refused"),
        (plausible, "unproved and plausible"),
        (implausible, "unproved"),
    ]
    yield line + "".join(f", {number} {name}" for number, name in left if number)
    refused = [hit for hit in module["hits"] if hit["left"] == "refused"]
    unproved = [hit for hit in module["hits"] if hit["left"] == "unproved"]
    hits = refused + sorted(unproved, key=lambda hit: not hit["plausible"])
    for hit in hits[:LISTED]:
        sign = "" if is_memory else "+"
        reads = "" if hit["left"] == "refused" else f", reads as {'code' if hit['plausible'] else 'data'}"
        yield f"    {sign}{hit['offset']:#x} {hit['left']}{reads}: {hit['reason']}"
    more = module["refused"] + plausible + implausible - min(len(hits), LISTED)
    if more:
        yield f"    and {more} more"


def net_line(net):
    state = net["state"]
    if state == "unavailable":
        return f"unavailable: {net['error']}"
    if state != "armed":
        return state
    line = f"armed{' since the start' if net['since_start'] else ''}: {net['why']}"
    if "module" in net:
        line += f" at {escaped(net['module'])}+{net['offset']:#x}"
    if "address" in net:
        line += f" at {net['address']:#x}"
    counts = [("bare", "made without a stub"), ("patched", "patched afterwards"), ("unarmed", "not armed")]
    rest = "".join(f", {net[key]} {name}" for key, name in counts if net[key])
    return f"{line}, {count(net['calls'], 'call')}{rest}"


def lines(report):
    yield f"report of process {report['process']}: {escaped(report['program'])}"
    yield f"  intercept: {report['intercept']}" + (", strict" if report["strict"] else "")
    yield "  net: " + net_line(report["net"])
    for module in report["modules"]:
        yield from module_lines(module)
    if report["texts_left_out"]:
        yield f"  {report['texts_left_out']} more texts of which nothing is known"
    yield f"  writable and executable at once: {count(report['writable_executable'], 'request')}"
    shared = report["shared_executable"]
    hits = f", {shared['unproved']} unproved" if shared["unproved"] else ""
    yield f"  shared and executable: {count(shared['mappings'], 'mapping')}{hits}"
    ring = report["io_uring"]
    yield "  io_uring: " + ("refused" if ring["refused"] else count(ring["rings"], "ring"))
    yield f"  results missed: {report['results_missed']}"
    mappings = "unknown" if report["mappings"] is None else report["mappings"]
    stubs = f"{report['stubs']['used']} of {report['stubs']['of']}"
    yield f"  stubs: {stubs}, stretches of trampolines: {report['trampolines']}, mappings: {mappings}"
    for native in report.get("natives", []):
        print("native", native["reason"], native["programs"], *native["first"], file=sys.stderr)


for text in sys.stdin.buffer:
    print(*lines(json.loads(text)), sep="\n")
