#!/usr/bin/env python3
"""Print the scalars of TensorBoard event files as CSV, read by TensorBoard's own reader.

    pip install tensorboard==2.21.0
    python read_events.py FOLDER_OR_FILE [--wall-time]

FOLDER is searched to any depth for files whose name holds "tfevents"; they are read in
the order of their paths. Standard output gets a header and one line per scalar

    tag,step,value                      (with --wall-time: tag,step,value,wall_time)

where `value` is the shortest decimal that reads back as the same float32 (NaN is nan,
infinities inf and -inf). Events that hold no scalar (the version record, graphs,
histograms ...) are counted on standard error, not printed.

Every record carries two masked CRC-32C checksums (one of its length, one of its bytes).
TensorBoard's record reader, the pure Python one used here, verifies both. The exit
status is

    0  every record of every file was whole, and at least one file was found
    1  a file has a bad record: a wrong checksum, a record cut short, bytes that are no
       Event message, a first event without the file version "brain.Event:2", or no
       event at all
    2  no event file was found, or the arguments are wrong

What stood before the bad record is printed all the same; the message on standard error
names the file.
"""
import argparse
import csv
import os
import sys

# The pure Python reader of TensorBoard. tensorboard.compat picks TensorFlow's reader when
# TensorFlow is installed; importing the stub by name gives the same reader everywhere.
import numpy as np
from tensorboard.compat.proto import event_pb2
from tensorboard.compat.tensorflow_stub import errors
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.util import tensor_util


class BadFile(Exception):
    """A file that TensorBoard's reader does not read to its end."""


def records(path):
    """Yield the bytes of every record of one file; raise BadFile at the first bad one."""
    reader = PyRecordReader_New(path)
    while True:
        try:
            reader.GetNext()        # verifies the checksum of the length and of the bytes
        except errors.OutOfRangeError as error:
            # The reader says "out of range" at the true end of the file, and also where a
            # record is cut short. Only the true end has nothing left after it.
            if "Truncated" in str(error) or "truncated" in str(error):
                raise BadFile(str(error)) from error
            return
        except errors.DataLossError as error:
            raise BadFile(str(error)) from error
        yield reader.record()


def scalar(value):
    """The float32 of one summary value, or None when it holds no scalar."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return np.float32(value.simple_value)
    if kind == "tensor" and value.metadata.plugin_data.plugin_name in ("", "scalars"):
        array = tensor_util.make_ndarray(value.tensor)
        if array.size == 1 and array.dtype.kind in "fiu":
            return np.float32(array.reshape(())[()])
    return None


def text(number):
    """Shortest decimal that reads back as the same float32."""
    return repr(float(str(number))) if np.isfinite(number) else str(number)


def event_files(where):
    """All event files below a folder, in the order of their paths."""
    if os.path.isfile(where):
        return [where]
    found = []
    for folder, _, names in os.walk(where):
        found += [os.path.join(folder, n) for n in names if "tfevents" in n]
    return sorted(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     epilog="See the docstring of this file for the exit status.")
    parser.add_argument("folder", help="folder searched for event files, or one event file")
    parser.add_argument("--wall-time", action="store_true", help="add the time of the event, in seconds, as a fourth column")
    args = parser.parse_args()

    paths = event_files(args.folder)
    if not paths:
        print(f"{args.folder}: no event file", file=sys.stderr)
        return 2
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["tag", "step", "value"] + (["wall_time"] if args.wall_time else []))
    bad, others = 0, 0
    for path in paths:
        count = 0
        try:
            for data in records(path):
                try:
                    event = event_pb2.Event.FromString(data)
                except Exception as error:      # google.protobuf's DecodeError
                    raise BadFile(f"record {count} is no Event: {error}") from error
                if count == 0 and event.file_version != "brain.Event:2":
                    raise BadFile(f"the first event has file version {event.file_version!r}, not 'brain.Event:2'")
                count += 1
                if not event.HasField("summary"):
                    others += 1
                    continue
                for value in event.summary.value:
                    number = scalar(value)
                    if number is None:
                        others += 1
                        continue
                    row = [value.tag, event.step, text(number)]
                    out.writerow(row + ([repr(event.wall_time)] if args.wall_time else []))
            if count == 0:
                raise BadFile("no event in it")
        except BadFile as error:
            sys.stdout.flush()
            print(f"{path}: bad record after {count} good ones: {error}", file=sys.stderr)
            bad += 1
    print(f"{len(paths)} files, {bad} of them bad; {others} events or values that are no scalar", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
