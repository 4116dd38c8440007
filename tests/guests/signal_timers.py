# Python with a timer that interrupts calls, threads that print their tracebacks from a handler, and signals between threads.
#@ run: /usr/bin/python3 $SRC
#@ modes: plain summary trace
#@ seconds: 120
import faulthandler
import os
import signal
import tempfile
import threading
import time

ticks = 0


def on_tick(number, frame):
    global ticks
    ticks += 1


class Out(Exception):
    pass


def on_user(number, frame):
    raise Out


def work(rounds):
    total = 0
    for at in range(rounds):
        with open("/dev/zero", "rb") as zeros:
            total += len(zeros.read(100))
        assert os.getppid() > 0
        os.stat("/proc/self/exe")
    return total


signal.signal(signal.SIGALRM, on_tick)
signal.signal(signal.SIGUSR1, on_user)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
threads = [threading.Thread(target=work, args=(3000,)) for _ in range(3)]
for thread in threads:
    thread.start()
print(work(3000))
for thread in threads:
    thread.join()

# Interrupted calls go on (PEP 475), and take the whole of their time.
start = time.monotonic()
time.sleep(0.05)
assert time.monotonic() - start >= 0.05
ends = os.pipe()
threading.Timer(0.02, lambda: os.write(ends[1], b"x")).start()
print(os.read(ends[0], 1))

# An exception out of a handler ends the call.
thrown = 0
for _ in range(50):
    killer = threading.Thread(target=lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1))
    try:
        killer.start()
        os.read(ends[0], 1)
    except Out:
        thrown += 1
    killer.join()
print(thrown)
signal.setitimer(signal.ITIMER_REAL, 0)
assert ticks > 20, ticks

# Tracebacks of all threads, from a handler that a timer's thread and a signal start.
with tempfile.TemporaryFile() as file:
    faulthandler.register(signal.SIGUSR2, file, all_threads=True)
    faulthandler.dump_traceback_later(0.01, repeat=True, file=file)
    sleeper = threading.Thread(target=time.sleep, args=(0.2,))
    sleeper.start()
    for _ in range(20):
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(0.002)
    sleeper.join()
    faulthandler.cancel_dump_traceback_later()
    file.seek(0)
    text = file.read()
    print(text.count(b"Current thread") >= 20, b"Timeout" in text)
print("ok")
