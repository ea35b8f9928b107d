"""``neutronflow translate``: a recorded stream to a NeXus file, without any service."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from neutronflow.foundation.config import load
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.instrument.translation.compiled import use_cache
from neutronflow.instrument.translation.outcome import DiskTrouble, Translated

if TYPE_CHECKING:
    from neutronflow.instrument.translation.assembler import Assembler


class TranslationFailed(NeutronflowError):
    """{file} was not translated. {detail}"""

    code = "translation-failed"


def configure(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument(
        "file", type=Path, metavar="FILE.adara", help="the recorded stream of one run; - is standard input"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.nxs.h5", help="the file to write")
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    parser.add_argument(
        "--keep-partial", action="store_true", help="keep what was written where the stream cannot be used"
    )
    parser.add_argument("--json", action="store_true", help="print what was translated as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Translate one file. 0: done; 1: the stream cannot be used; 2: the command cannot be."""
    if args.output.exists() and not args.force:
        raise TranslationFailed(file=args.file, detail=f"{args.output} is there already; --force writes over it.")
    settings = load()
    if settings.data_dir.is_dir():
        use_cache(settings.data_dir)
    partial = args.output.with_name(f"{args.output.name.removesuffix('.nxs.h5')}.partial.nxs.h5")
    if not args.file.is_file() and str(args.file) != "-":
        raise TranslationFailed(file=args.file, detail="There is no such file.")
    if not args.output.parent.is_dir():
        raise TranslationFailed(file=args.file, detail=f"There is no folder {args.output.parent}.")
    started = time.monotonic()
    try:
        translated = _translate(args, partial)
    except NeutronflowError as error:
        _refuse(args.file, error)
        if error.fields.get("offset") == 0:
            print("Is it a recorded ADARA stream?", file=sys.stderr)
        return 1
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        _refuse(args.file, DiskTrouble(detail=error))
        # Without the ordinary end of a process: after a failed write, HDF5 would crash in it.
        sys.stderr.flush()
        os._exit(1)
    _tell(translated, args.output, time.monotonic() - started, as_json=args.json)
    return 0


def _refuse(file: Path, error: NeutronflowError) -> None:
    print(f"neutronflow translate: {TranslationFailed(file=file, detail=error)}", file=sys.stderr)


def _translate(args: argparse.Namespace, partial: Path) -> Translated:
    from neutronflow.instrument.translation.assembler import Assembler

    assembler = Assembler(partial, args.output.name)
    try:
        _feed(args.file, assembler, show=sys.stderr.isatty() and not args.json)
        translated = assembler.finish()
        partial.replace(args.output)
    except (NeutronflowError, KeyboardInterrupt) as error:
        if args.keep_partial:
            assembler.salvage(str(error) or "it was interrupted")
        assembler.abandon()
        if not args.keep_partial:
            partial.unlink(missing_ok=True)
        raise
    return translated


def _feed(source: Path, assembler: Assembler, *, show: bool) -> None:
    from_input = str(source) == "-"
    with open(0, "rb", buffering=0, closefd=False) if from_input else source.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        shown = -1
        while count := stream.readinto(assembler.space()):
            assembler.received(count)
            percent = 100 * assembler.offset // size if size else 0
            if show and percent != shown:
                shown = percent
                print(f"\r{percent:3d} %", end="", file=sys.stderr, flush=True)
    if show:
        print("\r     \r", end="", file=sys.stderr)


def _tell(translated: Translated, output: Path, seconds: float, *, as_json: bool) -> None:
    if as_json:
        summary = {
            "file": str(output),
            "run_number": translated.run_number,
            "facility": translated.facility,
            "instrument": translated.beamline.short_name,
            "experiment": translated.experiment,
            "pulses": translated.pulses,
            "events": translated.events,
            "stream_bytes": translated.stream_bytes,
            "seconds": round(seconds, 3),
            "problems": translated.problems,
        }
        print(json.dumps(summary))
        return
    print(
        f"{output}: {translated.facility}/{translated.beamline.short_name} run {translated.run_number}, "
        f"{translated.pulses} pulses, {translated.events} events in {seconds:.1f} s"
    )
    for problem, times in translated.problems.items():
        print(f"  {times} x {problem}", file=sys.stderr)
