"""Numba's CUDA simulator with cooperative threads: one greenlet a CUDA thread, switched only where threads meet.

The simulator gives each CUDA thread a thread of the operating system, so that a barrier costs milliseconds, and knows no
warp intrinsics. Here a barrier costs microseconds, warps can shuffle and vote, and what a device would punish is found:

- a barrier that some threads of a block never reach, or that they reach on different lines, raises `Divergence`;
- threads run forwards and backwards in turn, so a missing barrier shows whichever side depends on the other, or, with `shuffled`,
  in random orders;
- shared, local and newly made device arrays begin as NaN or absurd integers, for each block anew;
- arithmetic that overflows wraps silently, as on a device.

It cannot show races between threads that run at the same time, nor anything about speed. It replaces private parts of
numba-cuda, whose version is therefore pinned.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache, partial
from random import Random

import numpy as np
from greenlet import getcurrent, greenlet

LANES = 32
BARRIER = "barrier"


class Divergence(RuntimeError):
    """Threads wait for others that will not come."""


class Thread:
    """One CUDA thread: where it is, and at what meeting it waits (None: it can run)."""

    __slots__ = ("block", "blockIdx", "brought", "code", "found", "lane", "meeting", "threadIdx", "thread_id")

    def meet(self, meeting, value):
        """Wait at a meeting; return what each thread there brought, by lane (a warp) or thread number (a block)."""
        self.meeting = meeting
        self.brought = value
        if meeting[0] is BARRIER or not self.block.warp_complete(self):
            self.block.hub.switch()
        return self.found


class Block:
    """Stands in for the simulator's BlockManager: runs the threads of one block after another."""

    def __init__(self, function, grid_dim, block_dim, debug):
        self.function = function
        self.block_dim = block_dim

    def run(self, grid_point, *args):
        """Run the block to its end."""
        global running
        self.hub = getcurrent()
        self.memory = {}
        self.waiting = {}
        with np.errstate(all="ignore"):
            self.threads = [self._thread(number, grid_point, args) for number in range(int(np.prod(self.block_dim)))]
        live = self.threads
        while live:
            ready = [thread for thread in live if thread.meeting is None]
            if not ready:
                self._open_barrier(live)
                ready = live
            for thread in ready:
                running = thread
                try:
                    thread.code.switch()
                except Exception as error:
                    where = f"in thread {tuple(thread.threadIdx)} of block {tuple(thread.blockIdx)}"
                    raise RuntimeError(f"{type(error).__name__} {where}: {error}") from error
            live = [thread for thread in live if not thread.code.dead][::-1]
            if order:
                order.shuffle(live)
        running = None

    def _thread(self, number, grid_point, args):
        x, y, _ = self.block_dim
        thread = Thread()
        thread.block = self
        thread.thread_id = number
        thread.lane = number % LANES
        thread.threadIdx = Dim3(number % x, number // x % y, number // (x * y))
        thread.blockIdx = Dim3(*grid_point)
        thread.meeting = thread.brought = thread.found = None
        thread.code = greenlet(partial(self.function, *args))
        thread.code.gr_context = copy_context()  # a greenlet has its own; this one ignores overflow
        return thread

    def _open_barrier(self, live):
        first = live[0].meeting
        alike = all(meeting is first or meeting == first for meeting in [thread.meeting for thread in live])
        if not alike or first[0] is not BARRIER:
            at = {thread.thread_id: _place(thread.meeting) for thread in live}
            if first[0] is not BARRIER or len({*at.values()}) > 1:
                raise Divergence(f"threads of block {tuple(live[0].blockIdx)} wait at different places: {at}")
        brought = {thread.thread_id: thread.brought for thread in live}
        for thread in live:
            thread.meeting = None
            thread.found = brought

    def warp_complete(self, thread):
        """Let the warp go if this thread is the last that its mask names."""
        warp = thread.thread_id // LANES
        mask = thread.meeting[1]
        if not mask >> thread.lane & 1:
            raise Divergence(f"thread {thread.thread_id} is not in the mask {mask:#x} it gave")
        there = self.waiting.setdefault((warp, thread.meeting), [])
        there.append(thread)
        lanes = min(LANES, len(self.threads) - warp * LANES)
        if len(there) < (mask & ((1 << lanes) - 1)).bit_count():
            return False
        del self.waiting[warp, thread.meeting]
        brought = {mate.lane: mate.brought for mate in there}
        for mate in there:
            mate.meeting = None
            mate.found = brought
        return True


def _place(meeting):
    """Name a meeting: a barrier by its function and line, which are slow to find."""
    if meeting[0] is not BARRIER:
        return meeting
    _, code, at = meeting
    return BARRIER, code.co_name, next(line for first, last, line in code.co_lines() if first <= at < last)


running: Thread | None = None
order: Random | None = None


@contextmanager
def shuffled(seed: int) -> Iterator[None]:
    """Run threads in random orders."""
    global order
    order = Random(seed)
    yield
    order = None


def install() -> None:
    """Put the scheduler into Numba's simulator; NUMBA_ENABLE_CUDASIM=1 must have been set before Numba was imported."""
    global Dim3
    from numba import cuda
    from numba.cuda.simulator import kernel, kernelapi

    if kernel.BlockManager is Block:
        return
    Dim3 = kernelapi.Dim3
    kernel.BlockManager = Block
    kernel.FakeWithinKernelCUDAArray = lambda fake: fake._ary  # plain arrays: the wrappers only slow them down
    kernel.FakeCUDAKernel.__call__ = _calls(kernel)
    kernelapi.FakeCUDALocal.array = lambda self, shape, dtype, alignment=None: _garbage(shape, _dtype(dtype))
    kernelapi.FakeCUDAShared.array = _shared_array
    cuda.device_array = _device_array(cuda.device_array)
    for name, member in _inside_a_kernel().items():
        setattr(kernelapi.FakeCUDAModule, name, member)


def _calls(kernel):
    """Calls of a kernel or device function. Names are swapped once a launch, where the simulator does it at each call."""
    launch = kernel.FakeCUDAKernel.__call__
    swapped = {}

    def call(self, *args):
        context = kernel._get_kernel_context()
        if context is None:
            try:
                return launch(self, *args)
            finally:
                for names, originals in swapped.values():
                    names.update(originals)
                swapped.clear()
        names = self.fn.__globals__
        if id(names) not in swapped:
            from numba import cuda

            originals = {name: value for name, value in names.items() if value is cuda}
            swapped[id(names)] = names, originals
            names.update(dict.fromkeys(originals, context))
        return self.fn(*args)

    return call


@cache
def _dtype(dtype):
    from numba.cuda import types
    from numba.cuda.np import numpy_support

    return numpy_support.as_dtype(dtype) if isinstance(dtype, types.Type) else np.dtype(dtype)


def _garbage(shape, dtype):
    """A new array as a device would give it: of values that must not be used."""
    array = np.empty(shape, dtype)
    array.view(np.uint8).fill(0xFF if array.dtype.kind == "f" else 0x7F)  # NaN; 2139062143 for an int32
    return array


def _shared_array(self, shape, dtype, alignment=None):
    caller = sys._getframe(1)
    memory = running.block.memory
    if shape == 0:  # dynamic: every such array is the same bytes
        dtype, place = _dtype(dtype), "dynamic"
        if place not in memory:
            memory[place] = np.full(self._dynshared_size, 0xFF, np.uint8)
        return memory[place][: self._dynshared_size // dtype.itemsize * dtype.itemsize].view(dtype)
    place = caller.f_code, caller.f_lasti
    if place not in memory:
        memory[place] = _garbage(shape, _dtype(dtype))
    return memory[place]


def _device_array(make):
    def device_array(*args, **kwargs):
        array = make(*args, **kwargs)
        array._ary[...] = _garbage(array.shape, array.dtype)
        return array

    return device_array


def _inside_a_kernel():
    """What a kernel reaches as `cuda.*` and that concerns other threads."""

    def barrier(value):
        caller = sys._getframe(2)
        return running.meet((BARRIER, caller.f_code, caller.f_lasti), value).values()

    def syncthreads(self):  # as `barrier(None)`, in half of its time: there are millions
        caller = sys._getframe(1)
        running.meeting = BARRIER, caller.f_code, caller.f_lasti
        running.brought = None
        running.block.hub.switch()

    def warp(kind, mask, value):
        return running.meet((kind, int(mask) & 0xFFFFFFFF), value)

    def syncwarp(self, mask=0xFFFFFFFF):
        warp("syncwarp", mask, None)

    def shuffle(kind, source):
        def read(self, mask, value, argument):
            lane = running.lane
            return warp(kind, mask, value).get(source(lane, int(argument)), value)

        return read

    return {
        "threadIdx": property(lambda self: running.threadIdx),
        "blockIdx": property(lambda self: running.blockIdx),
        "laneid": property(lambda self: running.lane),
        "syncthreads": syncthreads,
        "syncthreads_count": lambda self, value: sum(1 for other in barrier(value) if other),
        "syncthreads_and": lambda self, value: int(all(barrier(value))),
        "syncthreads_or": lambda self, value: int(any(barrier(value))),
        "syncwarp": syncwarp,
        "shfl_sync": shuffle("shfl", lambda lane, source: source % LANES),
        "shfl_up_sync": shuffle("shfl_up", lambda lane, delta: lane - delta),
        "shfl_down_sync": shuffle("shfl_down", lambda lane, delta: lane + delta),
        "shfl_xor_sync": shuffle("shfl_xor", lambda lane, bits: lane ^ bits),
        "all_sync": lambda self, mask, value: int(all(warp("all", mask, value).values())),
        "any_sync": lambda self, mask, value: int(any(warp("any", mask, value).values())),
        "ballot_sync": lambda self, mask, value: sum(
            1 << lane for lane, other in warp("ballot", mask, value).items() if other
        ),
    }
