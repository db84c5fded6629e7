"""Reading and judging the error logs of both servers.

After every test the log may hold only what the test declared; see judge().
"""
import re

MDM_ID = re.compile(r"\b(MDM\d{4})\b")
NGINX_LEVEL = re.compile(r"^\d{4}/\d\d/\d\d [\d:]+ \[(\w+)\]")
APACHE_LEVEL = re.compile(r"^\[[^\]]+\] \[(\w*):(\w+)\]")

# Whatever a test declares by id, these words mean a fault of ours.
FATAL = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer"
                   r"|runtime error:|exit signal|exited on signal"
                   r"|open socket #|exited with (?:fatal )?code [1-9]"
                   r"|Segmentation fault|cannot be respawned"
                   r"|seg fault|double free|corrupted|stack smashing")
BAD_LEVELS = {"emerg", "alert", "crit"}
QUIET_LEVELS = {"notice", "info", "debug"} | {f"trace{i}" for i in range(9)}

# Messages of level notice or info that belong to normal work.
NORMAL = {
    "MDM0001",  # started
    "MDM0104",  # schema made
    "MDM0107",  # secret key made
    "MDM0202",  # enrolled
    "MDM0203",  # checked out
    "MDM0303",  # a command's outcome
    "MDM0401",  # this process sends the pushes
    "MDM0403",  # connected to the push service
    "MDM0407",  # the push service closes a connection in good order
    "MDM0503",  # push certificate stored
    "MDM0520",  # a certificate authority was made
    "MDM0521",  # a certificate was issued
    "MDM0603",  # change by the API
}


# Lines of level warn or error of the hosts that belong to normal work, or to
# the machine: AH01882 says that Debian's libssl3 is older than the one that
# the newest mod_ssl was built with.
NORMAL_TEXT = re.compile(r"is buffered to a temporary file|AH01882: Init:")


class Line:
    def __init__(self, text):
        self.text = text
        match = NGINX_LEVEL.match(text)
        if match:
            self.level = match.group(1)
        else:
            match = APACHE_LEVEL.match(text)
            self.level = match.group(2) if match else None
        ids = MDM_ID.findall(text)
        self.id = ids[0] if ids else None

    def is_normal(self):
        """Fit to stand in a log of a test that declared nothing."""
        if FATAL.search(self.text) or self.level in BAD_LEVELS:
            return False
        if self.level is None:      # a line that is nobody's: stderr
            return not self.text.strip()
        if self.level in QUIET_LEVELS:
            return self.id is None or self.id in NORMAL \
                or self.level in ("info", "debug")
        return bool(NORMAL_TEXT.search(self.text))


def is_declared(line, declared):
    """declared: message ids, and regular expressions for everything else.
    An id does not cover a line with a word of FATAL in it."""
    for item in declared:
        if re.fullmatch(r"MDM\d{4}", item):
            if line.id == item and not FATAL.search(line.text):
                return True
        elif re.search(item, line.text):
            return True
    return False


def judge(text, declared=()):
    """The lines that may not be there."""
    lines = [Line(t) for t in text.splitlines()]
    return [line.text for line in lines
            if not line.is_normal() and not is_declared(line, declared)]
