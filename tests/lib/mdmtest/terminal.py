"""Runs a program on a pseudo-terminal of its own, as a person would."""
import os
import pty
import select
import signal
import termios
import time


class Terminal:
    """with Terminal([program, ...]) as t: t.expect("Password: ");
    t.type("secret"); status = t.wait().  `text` is all that was shown."""

    def __init__(self, command, env=None, cwd=None, umask=None):
        self.text = ""
        self.seen = 0       # what expect() has passed
        self.status = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                # Whoever runs the tests may ignore some, and that is handed
                # down.
                for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP,
                               signal.SIGTERM, signal.SIGTSTP):
                    signal.signal(number, signal.SIG_DFL)
                if cwd:
                    os.chdir(cwd)
                if umask is not None:
                    os.umask(umask)
                os.execve(command[0], command, env or os.environ)
            finally:
                os._exit(127)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        os.close(self.fd)

    def read(self, timeout):
        """False: the program has closed the terminal, or nothing came."""
        if not select.select([self.fd], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.text += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)

    def expect(self, text, timeout=20):
        """Waits until this is shown, behind what was expected before."""
        end = time.monotonic() + timeout
        while text not in self.text[self.seen:]:
            if not self.read(max(0, end - time.monotonic())):
                raise AssertionError(f"{text!r} did not come:\n{self.text}")
        self.seen = self.text.index(text, self.seen) + len(text)

    def is_echoing(self):
        return bool(termios.tcgetattr(self.fd)[3] & termios.ECHO)

    def type(self, line, end="\n"):
        os.write(self.fd, (line + end).encode())

    def answer(self, prompt, line):
        """Waits for a prompt for something secret, and types it."""
        self.expect(prompt)
        assert not self.is_echoing(), "what is typed now would be seen"
        self.type(line)

    def wait(self, timeout=60):
        """Exit status; that of a signal is negative."""
        end = time.monotonic() + timeout
        while self.status is None:
            self.read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"did not end:\n{self.text}")
        while self.read(0.05):
            pass
        return self.status
