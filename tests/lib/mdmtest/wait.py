"""Waiting for a condition instead of sleeping for a guessed time."""
import time


class Timeout(AssertionError):
    """The condition did not come true in time."""


def wait_for(condition, timeout=10.0, what="condition", pause=0.02):
    """Calls condition() until it returns something true; returns that."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise Timeout(f"waited {timeout} s in vain for: {what}")
        time.sleep(pause)
