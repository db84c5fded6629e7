"""What the measuring programs share: processor time of other processes."""
import os

TICK = os.sysconf("SC_CLK_TCK")


def process_tree(pid):
    path = f"/proc/{pid}/task/{pid}/children"
    try:
        with open(path, encoding="ascii") as f:
            children = [int(p) for p in f.read().split()]
    except FileNotFoundError:       # it has ended meanwhile
        return []
    return [pid] + [p for child in children for p in process_tree(child)]


def cpu_seconds(pid):
    """Processor time of a process, its children and all that have ended."""
    total = 0
    for one in process_tree(pid):
        try:
            with open(f"/proc/{one}/stat", encoding="ascii") as f:
                fields = f.read().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        total += sum(int(x) for x in fields[11:15 if one == pid else 13])
    return total / TICK


def peak_memory_mb(pid):
    """The largest of the processes' peaks (VmHWM)."""
    peaks = [0]
    for one in process_tree(pid):
        try:
            with open(f"/proc/{one}/status", encoding="ascii") as f:
                peaks += [int(line.split()[1]) for line in f
                          if line.startswith("VmHWM:")]
        except FileNotFoundError:
            continue
    return max(peaks) / 1024
