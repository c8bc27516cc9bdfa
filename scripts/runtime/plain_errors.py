"""Errors on the command line: a complaint ends as one sentence, not under MONAI's tracebacks."""

import atexit
import gc
import io
import logging
import re
import signal
import sys
import threading
import traceback
import warnings
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from types import TracebackType

BUNDLE = Path(__file__).resolve().parents[2]
OURS = {BUNDLE / "scripts", BUNDLE / "development"}
TRACEBACK, FRAME = "Traceback (most recent call last):\n", re.compile(r'  File "(.+?)", line ')
NEXT_IN_CHAIN = re.compile(r"\n\n(?:The above exception was|During handling of)")


def root_cause(error: BaseException) -> BaseException:
    """The first error of a chain of causes."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from, the last one first."""
    following: BaseException | None = error
    while following is not None:
        yield following
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)


def is_complaint(error: BaseException) -> bool:
    """Whether an error is a sentence for the user: raised by this bundle about a value or a file."""
    frames = traceback.extract_tb(error.__traceback__)
    return (
        isinstance(error, (ValueError, FileNotFoundError))
        and bool(frames)
        and not OURS.isdisjoint(Path(frames[-1].filename).resolve().parents)
    )


def complaint(error: BaseException) -> str:
    """The sentence in a chain of errors, whatever wraps it and whatever it was raised from; empty if there is none."""
    for one in chain(error):
        text = str(one)
        if is_complaint(one):
            return text
        if sentence := _of_worker(text):
            return sentence
        if isinstance(one, OSError) and one.filename is not None and one.strerror:
            return f"{one.filename}: {one.strerror}"
        if "CUDA" in text and isinstance(one, (AssertionError, RuntimeError)) and one.__cause__ is None:
            return f"the GPU cannot be used ({text.splitlines()[0]}); leave --device out, or give cpu."
    return ""


def describe(error: BaseException) -> str:
    """The sentence, or else the first error of a chain: MONAI wraps what a transform raised in a traceback's text."""
    cause = root_cause(error)
    return complaint(error) or f"{type(cause).__name__}: {cause}"


def _of_worker(text: str) -> str:
    """The complaint in the text of a traceback, which is all that a worker process of a loader sends of an error."""
    kinds = {"ValueError", "FileNotFoundError", *(kind.__name__ for kind in ValueError.__subclasses__())}
    for part in reversed(text.split(TRACEBACK)[1:]):
        lines = part.splitlines()
        frames = [*takewhile(lambda line: line.startswith("  "), lines)]
        files = [found[1] for line in frames if (found := FRAME.match(line))]
        name, _, message = "\n".join(lines[len(frames) :]).partition(": ")
        if files and not OURS.isdisjoint(Path(files[-1]).resolve().parents) and name.rpartition(".")[2] in kinds:
            return NEXT_IN_CHAIN.split(message)[0].strip()
    return ""


def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The hook: a complaint as a sentence, anything else with its whole traceback and one line at its end."""
    sentence = "interrupted." if issubclass(kind, KeyboardInterrupt) else complaint(error)
    if not sentence:
        sys.__excepthook__(kind, error, trace)
        sentence = f"{kind.__name__}, a fault of the program; the lines above say where."
    print(f"error: {sentence}", file=sys.stderr)


def install_plain_errors() -> None:
    """Report uncaught errors plainly from here on (first step of every workflow), and keep one false alarm quiet."""
    sys.excepthook = report
    atexit.register(gc.freeze)  # at the end Python would look through a million imported objects for garbage: 1.5 s
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that the console's code page lacks must not end a run
            stream.reconfigure(errors="backslashreplace")
    # MONAI repeats for every image that it opens which optional decoders it did not find.
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")


def start_command() -> None:
    """Report errors as sentences, log messages as they are, and expand ~ in arguments: the first step of a command."""
    install_plain_errors()
    if threading.current_thread() is threading.main_thread():  # then copies of patients' slices are removed
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.argv[1:] = [re.sub(r"^(--\w+=)?~(?=/|$)", rf"\1{Path.home().as_posix()}", word) for word in sys.argv[1:]]
    logging.basicConfig(level=logging.INFO, format="%(message)s")


def command_parser(module: str, description: str | None) -> ArgumentParser:
    """Start a command, and return a parser for its arguments whose help shows the description as it stands."""
    start_command()
    return ArgumentParser(f"python -m {module}", None, description, formatter_class=RawDescriptionHelpFormatter)
