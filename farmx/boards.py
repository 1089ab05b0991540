"""Event files for TensorBoard, by torch's SummaryWriter where torch is loaded, else by tensorboard alone.

Never imports torch where the program has not.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from farmx import layout, lines
from farmx.errors import LogxError, RecordError

if TYPE_CHECKING:
    import numpy

CHANNELS = {1: 0, 3: 2, 4: 6}  # grey, colour, colour and alpha: what a PNG calls them
TEXT_SUFFIX = "/text_summary"  # as torch names them


class Writer(Protocol):
    """What logx needs of a writer of event files."""

    def flush(self) -> None:
        """Have all that was drawn in the file."""

    def close(self) -> None:
        """Flush, and end."""


def writer(folder: str, clock: Callable[[], float]) -> Writer:
    """A writer of a new event file in `folder`. Raises LogxError when it cannot be made."""
    try:
        if "torch" not in sys.modules:
            return Board(folder, clock)
        from torch.utils.tensorboard import SummaryWriter

        made: Writer = SummaryWriter(folder)
        return made
    except ImportError as error:
        raise LogxError(f"tensorboard=True needs the package tensorboard: {error}") from error
    except OSError as error:
        raise lines.unwritable(folder, error) from error


def write_hparams(folder: str, hparams: Mapping[str, Any] | None, clock: Callable[[], float]) -> None:
    """An event file with `hparams` for the HPARAMS tab, where each scalar's last value stands beside them.

    hparams: None for those that `folder` has a record of, if it has. One run is one trial, named by its directory.
    Raises LogxError when that cannot be read or the file cannot be written.
    """
    if hparams is None:
        hparams = _recorded(os.path.join(folder, layout.HPARAMS))
    if not hparams:
        return
    try:
        board = Board(folder, clock)
        board.add_trial(hparams)
        board.close()
    except ImportError as error:
        raise LogxError(f"tensorboard=True needs the package tensorboard: {error}") from error
    except OSError as error:
        raise lines.unwritable(folder, error) from error


def _recorded(path: str) -> dict[str, Any]:
    try:
        return layout.read_json(path, newest=None)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except RecordError as error:
        raise LogxError(str(error)) from error


class Board:
    """The methods of torch's SummaryWriter that need no torch, with its arguments and tags."""

    def __init__(self, folder: str, clock: Callable[[], float]) -> None:
        self._folder, self._clock = folder, clock
        self._file: Any = None
        self._beside: dict[str, Board] = {}  # by their directories
        self._opened()

    def _opened(self) -> Any:
        """The event file; a new one after close(), as torch has it."""
        if self._file is None:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            self._file = EventFileWriter(self._folder)
        return self._file

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise LogxError(
            f"tensorboard.{name}: SummaryWriter of torch may have it: import torch before logx.initialize(); "
            "without it there are add_scalar, add_scalars, add_image, add_text, add_histogram, add_hparams"
        )

    def add_scalar(
        self, tag: str, scalar_value: Any, global_step: int | None = None, walltime: float | None = None
    ) -> None:
        """Draw a number."""
        self._add(global_step, walltime, tag=tag, simple_value=lines.number(scalar_value, f"scalar {tag!r}"))

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Any],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Draw numbers in one chart; each has an event file in a directory of its own, as torch has it."""
        for tag, value in tag_scalar_dict.items():
            folder = os.path.join(self._folder, f"{main_tag.replace('/', '_')}_{tag}")
            if folder not in self._beside:
                self._beside[folder] = Board(folder, self._clock)
            self._beside[folder].add_scalar(main_tag, value, global_step, walltime)

    def add_hparams(
        self,
        hparam_dict: Mapping[str, Any],
        metric_dict: Mapping[str, Any],
        hparam_domain_discrete: Mapping[str, Any] | None = None,
        run_name: str | None = None,
        global_step: int | None = None,
    ) -> None:
        """Values and what they led to, for the HPARAMS tab, in a directory `run_name`, by default the time.

        hparam_domain_discrete says nothing: the tab goes by the values.
        """
        board = Board(os.path.join(self._folder, run_name or str(self._clock())), self._clock)
        board.add_trial(hparam_dict)
        for tag, value in metric_dict.items():
            board.add_scalar(tag, value, global_step)
        board.close()

    def add_trial(self, hparams: Mapping[str, Any]) -> None:
        """Values for the HPARAMS tab, as one trial, named by the directory."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        plain = (bool, int, float, str)
        values = {name: value if isinstance(value, plain) else str(value) for name, value in hparams.items()}
        self.add_summary(hparams_pb(values, os.path.basename(self._folder), self._clock()), None, None)

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Show an image; dataformats: CHW, HWC or HW. Floats are from 0 to 1, integers from 0 to 255."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        pixels = _pixels(img_tensor, dataformats, tag)
        height, width, channels = pixels.shape
        image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=_png(pixels))
        self._add(global_step, walltime, tag=tag, image=image)

    def add_text(
        self, tag: str, text_string: str, global_step: int | None = None, walltime: float | None = None
    ) -> None:
        """Show a text, as markdown."""
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.plugins.text.metadata import create_summary_metadata

        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        text = text_string.encode("utf-8", "backslashreplace")
        tensor = TensorProto(dtype="DT_STRING", string_val=[text], tensor_shape=shape)
        metadata = create_summary_metadata(display_name="", description="")
        self._add(global_step, walltime, tag=tag + TEXT_SUFFIX, metadata=metadata, tensor=tensor)

    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: int | None = None,
        bins: Any = "doane",
        walltime: float | None = None,
    ) -> None:
        """Draw how `values` are spread, over bins as numpy.histogram takes them."""
        import numpy
        from tensorboard.compat.proto.summary_pb2 import HistogramProto

        flat = numpy.asarray(values, dtype=float).reshape(-1)
        flat = flat[numpy.isfinite(flat)]
        if not flat.size:
            raise LogxError(f"histogram {tag!r}: no finite value to draw")
        counts, edges = numpy.histogram(flat, bins=bins)
        spread = HistogramProto(
            min=flat.min(),
            max=flat.max(),
            num=flat.size,
            sum=flat.sum(),
            sum_squares=(flat * flat).sum(),
            bucket_limit=edges.tolist(),
            bucket=[0.0, *counts.tolist()],
        )
        self._add(global_step, walltime, tag=tag, histo=spread)

    def _add(self, step: int | None, when: float | None, **value: Any) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self.add_summary(Summary(value=[Summary.Value(**value)]), step, when)

    def add_summary(self, summary: Any, step: int | None, when: float | None) -> None:
        """Put tensorboard's own message into the file."""
        from tensorboard.compat.proto.event_pb2 import Event

        count = 0 if step is None else int(lines.number(step, "global_step"))
        self._opened().add_event(Event(wall_time=self._clock() if when is None else when, step=count, summary=summary))

    def flush(self) -> None:
        """Have all that was drawn in the file."""
        for file in (self._file, *self._beside.values()):
            if file is not None:
                file.flush()

    def close(self) -> None:
        """Flush, and end; what is drawn afterwards opens a new file."""
        files = (self._file, *self._beside.values())
        self._file, self._beside = None, {}
        for file in files:
            if file is not None:
                file.close()

    def get_logdir(self) -> str:
        """Where the event file is."""
        return self._folder


def array(image: Any) -> Any:
    """`image` as an array, if it is nested lists; else as it is."""
    import numpy

    return image if hasattr(image, "shape") else numpy.asarray(image)


def dataformats(image: Any) -> str:
    """HW, CHW or HWC, by the shape of an array or of nested lists; the first that fits. Raises LogxError."""
    shape = tuple(array(image).shape)
    if len(shape) == 2:
        return "HW"
    if len(shape) == 3 and shape[0] in CHANNELS:
        return "CHW"
    if len(shape) == 3 and shape[2] in CHANNELS:
        return "HWC"
    raise LogxError(f"add_image: shape {shape} is no image: (H, W), (C, H, W) or (H, W, C) with 1, 3 or 4 channels")


def _pixels(image: Any, formats: str, tag: str) -> numpy.ndarray[Any, Any]:
    """(H, W, C) of bytes."""
    import numpy

    values = numpy.asarray(image)
    shape = values.shape
    if sorted(formats) not in (sorted("HWC"), sorted("HW")) or values.ndim != len(formats):
        raise LogxError(f"image {tag!r}: shape {shape} is not of the form {formats}; CHW, HWC and HW are known")
    if len(formats) == 2:
        values, formats = values[..., None], formats + "C"
    values = values.transpose([formats.index(axis) for axis in "HWC"])
    if values.shape[2] not in CHANNELS:
        raise LogxError(f"image {tag!r}: {values.shape[2]} channels are none of 1, 3, 4")
    if not values.size:
        raise LogxError(f"image {tag!r}: shape {shape} holds no pixel")
    if values.dtype.kind in "fb":
        values = numpy.nan_to_num(values.astype(float)) * 255
    pixels: numpy.ndarray[Any, Any] = values.clip(0, 255).astype(numpy.uint8)
    return pixels


def _png(pixels: numpy.ndarray[Any, Any]) -> bytes:
    """A PNG file of (H, W, C) bytes: its header, the rows, each after a 0 for "as they are", and its end."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, CHANNELS[channels], 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
