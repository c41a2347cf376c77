"""Lets the official Python clients run on today's Python.

They hand `loop=` to asyncio functions, which Python 3.10 no longer takes. This module makes those
functions ignore it; the clients themselves stay as they are published. Import it before them.
"""

import asyncio
import functools


def _ignore_loop(function):
    @functools.wraps(function)
    def without_loop(*arguments, loop=None, **options):
        return function(*arguments, **options)

    return without_loop


class _Queue(asyncio.Queue):
    def __init__(self, maxsize=0, *, loop=None):
        super().__init__(maxsize)


asyncio.Queue = _Queue
asyncio.sleep = _ignore_loop(asyncio.sleep)
asyncio.wait_for = _ignore_loop(asyncio.wait_for)
asyncio.open_connection = _ignore_loop(asyncio.open_connection)
