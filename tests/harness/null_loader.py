#!/usr/bin/python3 -I
"""A loader that intercepts nothing: it runs its program natively. It proves the tests, not the loader.

Point LOADER_UNDER_TEST at this file. `-c` and `--trace` are served by strace, its table cut to the loader's columns.
"""
import os
import signal
import subprocess
import sys
import tempfile


def table(lines):
    """Calls, errors, name out of strace's six columns, without the execve that started the program."""
    for words in map(str.split, lines):
        if not words or not words[0][0].isdigit():
            continue
        if words[-1] in ("execve", "total"):
            words[3] = str(int(words[3]) - 1)
        if words[3] != "0":
            yield " ".join(words[3:])


def die(status, reason):
    sys.stderr.write(f"loader: {reason}\n")
    sys.exit(status)


def parse(words):
    """The mode, the report's file, the program's words."""
    mode = report = None
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option == "--":
            break
        if option in ("-c", "--summary", "--trace"):
            mode = option
        elif option == "-o" and words:
            report = words.pop(0)
        elif option in ("--help", "--version"):
            print("loader 0.1.0")
            sys.exit(0)
        else:
            die(2, f"{option}: no such option, or its value is missing")
    if not words:
        die(2, "no program")
    return mode, report, words


def main():
    mode, report, words = parse(sys.argv[1:])
    # Python ignores these, and what is ignored stays so across execve.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if mode is None:
        try:
            os.execvp(words[0], words)
        except FileNotFoundError as error:
            die(127, f"{words[0]}: {error.strerror}")
        except OSError as error:
            die(126, f"{words[0]}: {error.strerror}")
    is_summary = mode != "--trace"
    with tempfile.NamedTemporaryFile("r") as raw:
        strace = ["/usr/bin/strace", "-c" if is_summary else "-q", "-o", raw.name, "--"]
        status = subprocess.run(strace + words, close_fds=False).returncode
        with open(report or "/dev/stderr", "w") as out:
            lines = raw.read().splitlines()
            out.write("\n".join(table(lines) if is_summary else lines) + "\n")
    if status < 0:
        os.kill(os.getpid(), -status)
    sys.exit(status)


main()
