"""Reads the .def tables of common/ (rows of a C macro) without a compiler."""
import os
import re

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..",
                                   ".."))
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[(),]|[^\s(),"]+')


def strip_comments(text):
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


def rows(text, macro):
    """Argument lists of every macro(...) in text.  String arguments come
    without quotes and joined, the others as their words."""
    tokens = TOKEN.findall(strip_comments(text))
    found = []
    i = 0
    while i < len(tokens):
        if tokens[i] != macro or i + 1 >= len(tokens) or tokens[i + 1] != "(":
            i += 1
            continue
        i += 2
        args = [[]]
        depth = 1
        while depth:
            token = tokens[i]
            i += 1
            if token == "(":
                depth += 1
            elif token == ")":
                depth -= 1
                if not depth:
                    break
            if token == "," and depth == 1:
                args.append([])
            else:
                args[-1].append(token)
        found.append([argument(a) for a in args])
    return found


def argument(words):
    if words and all(w.startswith('"') for w in words):
        return "".join(w[1:-1].replace('\\"', '"') for w in words)
    return " ".join(words)


class Directive:
    def __init__(self, row):
        (self.id, self.apache, self.nginx, scope, only, self.min, self.max,
         self.syntax, preset, self.help) = row
        self.scope = scope.replace("MDM_SCOPE_", "").lower()
        self.only = only == "true"
        self.min = int(self.min)
        self.max = int(self.max)
        self.preset = None if preset == "NULL" else preset


def read(name):
    with open(os.path.join(TOP, "common", name), encoding="utf-8") as f:
        return f.read()


def directives():
    """Rows of mdm_directives.def by id."""
    found = rows(read("mdm_directives.def"), "MDM_DIRECTIVE")
    return {row[0]: Directive(row) for row in found}


def messages():
    """Names of mdm_messages.def by number."""
    found = rows(read("mdm_messages.def"), "MDM_MESSAGE")
    return {int(row[0]): row[1] for row in found}
