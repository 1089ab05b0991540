"""What a training script calls: messages, metrics, TensorBoard and checkpoints of one run; runx's logx, by name.

    from farmx.logx import logx        # `from farmx import logx` is the same

Never imports torch, tensorboard or typing at import, never reads a configuration, never writes hparams.json in a run of
farmx's.
"""

from __future__ import annotations

import _thread
import atexit
import os
import sys
import time

from farmx import layout, lines, logdirs
from farmx.errors import LogxError

TYPE_CHECKING = False  # as typing's; importing typing or json here would double the start of a training script
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping
    from typing import Any

    from farmx.boards import Writer
    from farmx.checkpoints import Checkpoints

START = "start"  # the phase of the row that initialize() writes


class TensorBoard:
    """Every method of torch's SummaryWriter, or those of boards.Board where torch is not loaded.

    Calls do nothing where tensorboard was not asked for and on ranks other than 0; each is flushed while eager_flush.
    """

    def __init__(self, call: Callable[[str, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._call(name, args, kwargs)


class Suspension:
    """While entered nothing is flushed after single calls; the outermost one flushes at its end."""

    def __init__(self, owner: LogX, flush_at_end: bool) -> None:
        self._owner = owner
        self._flush_at_end = flush_at_end

    def __enter__(self) -> None:
        self._before = self._owner.eager_flush
        self._owner.eager_flush = False

    def __exit__(self, *_: object) -> None:
        self._owner.eager_flush = self._before
        if self._flush_at_end:
            self._owner._flush()


class LogX:
    """The log of one run. Its methods are silent and create nothing on ranks other than 0.

    initialized: whether initialize() has returned.  rank0: whether this process writes.  eager_flush: whether every
    call of TensorBoard is flushed at once.

    Any method called before initialize() initializes inside a run of farmx's and raises LogxError elsewhere.
    """

    def __init__(self) -> None:
        self.initialized = False
        self.rank0 = False
        self.eager_flush = True
        self.tensorboard = TensorBoard(self._draw)
        self._lock = _thread.allocate_lock()
        self._hooked = False
        self._forget()

    def _forget(self) -> None:
        self._rows: lines.Lines | None = None
        self._log: lines.Lines | None = None
        self._board: Writer | None = None
        self._checkpoints: Checkpoints | None = None
        self._draws = False
        self._ours = True
        self._steps: dict[str, int] = {}
        self._unseen = 0
        self._words: dict[str, tuple[str, str]] = {}

    def initialize(
        self,
        logdir: str | os.PathLike[str] | None = None,
        coolname: bool = False,
        hparams: Mapping[str, Any] | Namespace | None = None,
        tensorboard: bool = False,
        no_timestamp: bool = False,
        global_rank: int | None = None,
        eager_flush: bool = True,
    ) -> None:
        """Say where to log, and write a row of phase `start`.

        Inside a run of farmx's, that is, its attempt has not ended and `logdir` is None or the run's directory:
        metrics.jsonl and args.json (what `hparams` holds) go into the attempt, logging.log, checkpoints and event files
        into the run; coolname is ignored. A program in an attempt that has logged before numbers its steps from there.

        Elsewhere everything goes into `logdir`, as for runx; by default into `default` below $FARMX_LOGROOT or ./runs,
        with coolname into a new directory there instead. hparams is kept as hparams.json. A restart in the same
        directory appends to metrics.jsonl: a reader takes each `start` row as the beginning of an attempt. Where that
        leaves a run without metrics that are there, inside of it, a line on stderr says so.

        What is there as args.json or hparams.json is never overwritten. tensorboard: write event files, hparams among
        them. no_timestamp: rows carry null for the time. global_rank: by default the launcher's environment says.
        Raises LogxError when the directory cannot be made or written.
        """
        values = None if hparams is None else lines.plain(lines.mapping("initialize: hparams", hparams))
        self._close()
        self._forget()
        self.rank0 = (logdirs.rank() if global_rank is None else global_rank) == 0
        self.eager_flush = eager_flush
        self._clock = _no_time if no_timestamp else _time
        attempt = logdirs.attempt(logdir)
        self._logdir = logdirs.run() if attempt else logdirs.outside(logdir, coolname, self.rank0)
        if self.rank0:
            self._open(attempt, values)
            if line := logdirs.unseen(self._logdir):
                print(line, file=sys.stderr, flush=True)
            self._draws = tensorboard
            if tensorboard:
                self._draw_hparams(values)
        self.initialized = True

    def _open(self, attempt: str | None, hparams: dict[str, Any] | None) -> None:
        import json  # spares a program that only imports logx

        self._encode = json.JSONEncoder(allow_nan=False).encode
        if hparams is not None:
            lines.keep(os.path.join(attempt or self._logdir, layout.ARGS if attempt else layout.HPARAMS), hparams)
        path = os.path.join(attempt, layout.METRICS) if attempt else os.path.join(self._logdir, layout.OUTSIDE_METRICS)
        self._rows = lines.Lines(path)
        self._log = lines.Lines(os.path.join(self._logdir, layout.LOGGING))
        if attempt and not self._rows.empty:
            self._steps = _next_steps(path)
        self._rows.append(self._row(START, 0, "{}"))
        self._rows.sync()
        self._hook()

    def _hook(self) -> None:
        if self._hooked:
            return
        self._hooked = True
        atexit.register(self._at_exit)
        os.register_at_fork(before=self._before_fork, after_in_child=self._in_child)

    @property
    def logdir(self) -> str:
        """The run's directory, absolute; where coolname makes it, on ranks other than 0 the one above."""
        self._writes("logdir")
        return self._logdir

    def msg(self, msg: object) -> None:
        """Print `msg` and append it to logging.log."""
        if not self._writes("msg"):
            return
        print(msg, flush=True)
        assert self._log is not None
        with self._lock:
            self._log.append(f"{msg}\n".encode("utf-8", "backslashreplace"))

    def metric(self, phase: str, metrics: Mapping[str, Any], epoch: float | None = None) -> None:
        """Record `metrics` (name to number) of `phase` at `epoch`; once this returns, SIGKILL loses nothing.

        phase: any name but `start`; trn and training are train; validate, validation and test are val, as for runx.
        Values are numbers or what holds a single one: tensors, numpy scalars and arrays of one element, Decimal.
        Without `epoch`, the phase's steps are numbered from 0, or after those before (the last explicit one, a
        resume(), an earlier program of the attempt). TensorBoard has them as `<phase as given>/<name>`.
        Raises LogxError, and records nothing, for what is no number; also when the file cannot be written. Other nodes
        see a row after five seconds at most if rows go on coming, else at once.
        """
        if not self._writes("metric"):
            return
        canonical, word = self._words.get(phase) or self._learn(phase) if type(phase) is str else _bad_phase(phase)
        numbers, text = self._numbers(metrics)
        explicit = epoch if epoch is None or type(epoch) is int else _step(epoch)
        assert self._rows is not None
        with self._lock:
            step = self._steps.get(canonical, self._unseen) if explicit is None else explicit
            self._rows.append(self._row(word, step, text))
            self._steps[canonical] = int(step // 1) + 1
        self._rows.sync()
        if self._draws:
            self._draw_scalars(phase, numbers, int(step))

    def _learn(self, phase: str) -> tuple[str, str]:
        if not phase or phase == START:
            _bad_phase(phase)
        canonical = layout.PHASES.get(phase, phase)
        self._words[phase] = canonical, canonical
        return self._words[phase]

    def _row(self, phase: str, step: float, metrics: str) -> bytes:
        word = self._encode(phase)
        return f'{{"time": {self._clock()}, "phase": {word}, "step": {step}, "metrics": {metrics}}}\n'.encode("ascii")

    def _numbers(self, metrics: Mapping[str, Any]) -> tuple[Mapping[str, float], str]:
        if type(metrics) is not dict:
            metrics = lines.mapping("metric", metrics)
        for name, value in metrics.items():
            kind = type(value)
            if type(name) is not str or (
                kind is not float and (kind is not int or not -lines.TOO_LARGE < value < lines.TOO_LARGE)
            ):
                break
        else:
            try:
                return metrics, self._encode(metrics)
            except ValueError:  # a NaN or an infinity
                pass
        numbers = {_name(name): lines.number(value, f"metric {name!r}") for name, value in metrics.items()}
        return numbers, self._encode({name: layout.number(value) for name, value in numbers.items()})

    def add_scalar(self, name: str, val: Any, idx: int | None = None) -> None:
        """Draw `val` in TensorBoard at step `idx`."""
        self.tensorboard.add_scalar(name, val, idx)

    def add_image(self, path: str, img: Any, step: int | None = None) -> None:
        """Show an image in TensorBoard: HW, CHW or HWC, in this order where its shape leaves that open.

        Floats are from 0 to 1, integers from 0 to 255; an array, a tensor or nested lists.
        """
        if self._writes("add_image") and self._draws:
            from farmx import boards  # spares a program that draws nothing

            self.tensorboard.add_image(path, boards.array(img), step, dataformats=boards.dataformats(img))

    def suspend_flush(self, flush_at_end: bool = True) -> Suspension:
        """A context in which TensorBoard is not flushed after every call."""
        return Suspension(self, flush_at_end)

    @staticmethod
    def is_better(save_metric: float, best_metric: float | None, higher_better: bool) -> bool:
        """Whether `save_metric` beats `best_metric`, strictly; NaN never does, and is beaten by any number."""
        from farmx.checkpoints import better  # spares a program that saves nothing

        return better(save_metric, best_metric, higher_better)

    def save_model(
        self,
        save_dict: Mapping[str, Any],
        metric: Any,
        epoch: int,
        higher_better: bool = True,
        delete_old: bool = True,
        keep: int | None = None,
    ) -> bool | None:
        """Save `save_dict` as last_checkpoint_ep<epoch>.pth; also as best_checkpoint_ep<epoch>.pth if it is better.

        The file also holds `__metric`, and `epoch` unless save_dict does; save_dict stays as it is. keep: that many
        best ones stay (1 by default). The last checkpoint before is removed unless delete_old is False. Returns whether
        it is the best so far, None on other ranks. Killed at any moment, a loadable checkpoint is left as there was
        one before. Written by torch when torch is loaded, else by pickle.

        Raises LogxError when it cannot be written, `metric` is no number or `keep` leaves none; what was there before
        is still there.
        """
        if not self._writes("save_model"):
            return None
        if not isinstance(save_dict, dict):
            save_dict = lines.mapping("save_model", save_dict)
        value, step = lines.number(metric, "save_model: metric"), _step(epoch, "save_model")
        if step != int(step) or step < 0:
            raise LogxError(f"save_model: epoch {epoch!r} must be a whole number from 0 on")
        store = self._store()
        count = 1 if keep is None else keep
        return store.save(save_dict, value, int(step), higher_better, delete_old, count, dict(self._steps))

    def load_model(self, path: str | os.PathLike[str], weights_only: bool = True) -> tuple[Any, dict[str, Any]]:
        """(state_dict, the rest of what save_model wrote) of the checkpoint at `path`, tensors on the CPU.

        weights_only: load tensors, arrays and plain values alone; False runs whatever code the file holds. Raises
        LogxError for what that refuses, for a torn or missing file and for one that has no state_dict.
        """
        from farmx import pickles  # spares a program that loads nothing

        content = pickles.load(os.fspath(path), weights_only, "load_model")
        if not isinstance(content, dict) or "state_dict" not in content:
            raise LogxError(f"{path}: holds no 'state_dict'; logx.resume() gives all that was saved")
        return content["state_dict"], {name: value for name, value in content.items() if name != "state_dict"}

    def resume(self, weights_only: bool = True) -> dict[str, Any] | None:
        """What save_model saved last in this run (save_dict, `__metric`, `epoch`); None when there is nothing.

        On every rank. A torn file is told in one line and the next older one taken. Afterwards steps are numbered as
        they were when it was saved, past its epoch. Raises LogxError for what weights_only refuses, as load_model does.
        """
        self._writes("resume")
        found = self._store().newest(weights_only)
        if found is None:
            return None
        entry, content = found
        self._unseen = entry.epoch + 1
        self._steps = {phase: step + (step == entry.epoch) for phase, step in entry.steps.items()}
        return content

    def get_best_checkpoint(self) -> str | None:
        """The path of the best checkpoint, on every rank; None when there is none."""
        self._writes("get_best_checkpoint")
        return self._store().best()

    def _store(self) -> Checkpoints:
        if self._checkpoints is None:
            from farmx.checkpoints import Checkpoints  # spares a program that saves nothing

            self._checkpoints = Checkpoints(self._logdir, self.msg)
        return self._checkpoints

    def _writes(self, what: str) -> bool:
        if not self.initialized:
            if logdirs.attempt(None) is None:
                raise LogxError(f"logx.{what}: logx.initialize() comes first")
            self.initialize()
        return self.rank0

    def _draw(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._writes(f"tensorboard.{name}") or not self._draws:
            return None
        try:
            result = getattr(self._writer(), name)(*args, **kwargs)
        except OSError as error:
            raise self._undrawn(error) from error
        self._flush()
        return result

    def _draw_scalars(self, phase: str, numbers: Mapping[str, float], step: int) -> None:
        with self.suspend_flush():
            for name, value in numbers.items():
                self.add_scalar(f"{phase}/{name}", value, step)

    def _draw_hparams(self, hparams: dict[str, Any] | None) -> None:
        from farmx import boards  # spares a program without TensorBoard

        boards.write_hparams(self._logdir, hparams, time.time)
        self._writer()

    def _writer(self) -> Writer:
        if self._board is None:
            from farmx import boards  # spares a program without TensorBoard

            self._board = boards.writer(self._logdir, time.time)
        return self._board

    def _flush(self) -> None:
        if not self.eager_flush or self._board is None:
            return
        try:
            self._board.flush()
        except OSError as error:
            raise self._undrawn(error) from error

    def _undrawn(self, error: OSError) -> LogxError:
        self._board = None  # its thread has ended: what is drawn once there is room goes into a new file
        return lines.unwritable(self._logdir, error)

    def _before_fork(self) -> None:
        if self._board is not None:
            self._board.flush()

    def _in_child(self) -> None:
        # The writer's thread is not here: a child that draws opens a file of its own. Rows and messages go on.
        self._ours = False
        self._inherited, self._board = self._board, None
        self._lock = _thread.allocate_lock()

    def _at_exit(self) -> None:
        # Files stay open: what runs at exit after us may log as well.
        try:
            self._end_board()
            for file in (self._rows, self._log):
                if file is not None and self._ours:
                    file.sync(every_s=0.0)
        except (OSError, LogxError) as error:
            print(f"logx: {error}", file=sys.stderr)

    def _end_board(self) -> None:
        board, self._board = self._board, None
        if board is not None:
            board.close()

    def _close(self) -> None:
        files = (self._rows, self._log)
        self._rows = self._log = None
        self.initialized = False
        self._end_board()
        for file in files:
            if file is not None and self._ours:
                file.close()


def _step(epoch: Any, what: str = "metric") -> float:
    step = lines.number(epoch, f"{what}: epoch")
    if step != step or abs(step) == float("inf"):
        raise LogxError(f"{what}: epoch {step} is not a number to count with")
    return step


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise LogxError(f"metric: the name {lines.short(name)} is not a string")
    return str(name)


def _bad_phase(phase: Any) -> Any:
    if phase == START:
        raise LogxError(f"metric: the phase {START!r} is logx's own; any other name will do")
    raise LogxError(f"metric: phase {lines.short(phase)} must be a name such as 'train' or 'val'")


def _time() -> str:
    return repr(time.time())


def _no_time() -> str:
    return "null"


def _next_steps(path: str) -> dict[str, int]:
    """The next step of each phase in the rows at `path`; a torn row is none."""
    import json  # spares a program that only imports logx

    steps: dict[str, int] = {}
    with open(path, "rb") as file:
        for line in file:
            try:
                row = json.loads(line)
                steps[row["phase"]] = int(row["step"] // 1) + 1
            except (ValueError, KeyError, TypeError):
                continue
    return steps


logx = LogX()


def __getattr__(name: str) -> Any:
    # `from farmx import logx` gives this module once it is loaded.
    return getattr(logx, name)
