#!/usr/bin/python3
# Eight threads that talk over sockets, hash, sleep, and start a child process each.
#@ run: /usr/bin/python3 -I $SRC
#@ seconds: 120
import hashlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time

ROUNDS = 50
results = [None] * 8


def serve(end):
    with end:
        while data := end.recv(65536):
            end.sendall(data)


def work(number):
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=serve, args=(theirs,))
    server.start()
    digest = hashlib.sha256()
    with ours:
        for at in range(ROUNDS):
            message = bytes([number, at]) * 1000
            ours.sendall(message)
            got = b""
            while len(got) < len(message):
                got += ours.recv(65536)
            assert got == message
            digest.update(got)
    server.join()
    child = subprocess.run(["/bin/sh", "-c", f"exit {number}"], check=False)
    with tempfile.TemporaryFile() as file:
        file.write(digest.digest())
        file.seek(0)
        assert file.read() == digest.digest()
    time.sleep(0.01)
    results[number] = digest.hexdigest(), child.returncode


ticks = 0


def tick(*_):
    global ticks
    ticks += 1


signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
while ticks < 3:
    time.sleep(0.01)
signal.setitimer(signal.ITIMER_REAL, 0)
for line in results:
    print(*line)
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
accepted, _ = listener.accept()
client.sendall(b"over tcp")
print(accepted.recv(100).decode())
pid = os.fork()
if pid == 0:
    os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print("ok")
