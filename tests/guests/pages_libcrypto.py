#!/usr/bin/python3
# libcrypto holds no system call, only data that looks like some: after use its code is the file's, byte by byte.
#@ run: /usr/bin/python3 -I $SRC
import hashlib
import ssl

assert hashlib.sha256(b"abc").hexdigest().startswith("ba7816bf8f01cfea")
assert hashlib.sha512(b"abc").hexdigest().startswith("ddaf35a193617aba")
assert hashlib.new("sha3_256", b"abc").hexdigest().startswith("3a985da74fe225b2")
assert len(hashlib.pbkdf2_hmac("sha256", b"p", b"s", 1000)) == 32
context = ssl.create_default_context()
assert context.get_ciphers()
# The first message of a handshake, for which keys are made.
client_in, client_out = ssl.MemoryBIO(), ssl.MemoryBIO()
client = context.wrap_bio(client_in, client_out, server_hostname="localhost")
try:
    client.do_handshake()
except ssl.SSLWantReadError:
    pass
assert client_out.read()

pages = differing = 0
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
    for line in maps.read().splitlines():
        fields = line.split(None, 5)
        if len(fields) < 6 or "libcrypto" not in fields[5] or "x" not in fields[1]:
            continue
        start, end = (int(word, 16) for word in fields[0].split("-"))
        with open(fields[5], "rb") as file:
            file.seek(int(fields[2], 16))
            for at in range(start, end, 4096):
                memory.seek(at)
                pages += 1
                on_disk = file.read(4096).ljust(4096, b"\0")
                if memory.read(4096) != on_disk:
                    differing += 1
                    print(f"page {at - start:#x} differs")
assert pages > 100, pages
print(f"{pages} pages, {differing} differ")
assert differing == 0
print("ok")
