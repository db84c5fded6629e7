"""What the lint scripts share: finding sources, reporting.

A script prints "ok NAME" or "not ok NAME: why" lines and ends with a status
that says whether all were ok.  One that finds nothing to check fails.
"""
import os
import re
import sys

sys.dont_write_bytecode = True
TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))


class Report:
    def __init__(self):
        self.number = 0
        self.failed = 0

    def check(self, name, faults):
        """faults: a list of texts; none means ok."""
        self.number += 1
        if not faults:
            print(f"ok {name}")
            return
        self.failed += 1
        print(f"not ok {name}: " + "; ".join(faults[:20])
              + (f"; and {len(faults) - 20} more" if len(faults) > 20
                 else ""))

    def finish(self):
        if not self.number:
            print("not ok lint: nothing to check")
            sys.exit(1)
        sys.exit(1 if self.failed else 0)


def sources(folder, *endings):
    """Paths relative to TOP, sorted."""
    where = os.path.join(TOP, folder)
    if not os.path.isdir(where):
        return []
    return sorted(os.path.join(folder, n) for n in os.listdir(where)
                  if n.endswith(endings or (".c", ".h")))


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as f:
        return f.read()


def code_only(text):
    """C code without comments and the insides of strings; lines stay."""
    def blank(match):
        word = match.group(0)
        if word.startswith(("/*", "//")):
            return re.sub(r"[^\n]", " ", word)
        return word[0] + word[-1]
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:[^\"\\\n]|\\.)*\""
                  r"|'(?:[^'\\\n]|\\.)*'", blank, text, flags=re.S)


def includes(text):
    return re.findall(r"^[ \t]*#[ \t]*include[ \t]+[<\"]([^>\"]+)[>\"]",
                      re.sub(r"/\*.*?\*/", "", text, flags=re.S), re.M)
