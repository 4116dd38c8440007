# Hashes of each kind and a whole TLS connection between two ends in memory, without a certificate.
#@ run: /usr/bin/python3 -I $SRC
#@ modes: plain summary exhaustive
import hashlib
import ssl

for name in ("sha256", "sha512", "sha3_256", "blake2b", "md5"):
    print(name, hashlib.new(name, bytes(range(256)) * 4096).hexdigest())
print(hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 20000).hex())
print(hashlib.scrypt(b"password", salt=b"salt", n=1024, r=8, p=1).hex())


def context(protocol):
    made = ssl.SSLContext(protocol)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers("AECDH-AES128-SHA:@SECLEVEL=0")
    return made


to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
client = context(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(to_client, to_server)
server = context(ssl.PROTOCOL_TLS_SERVER).wrap_bio(to_server, to_client, server_side=True)
waiting = [client, server]
while waiting:
    for end in list(waiting):
        try:
            end.do_handshake()
            waiting.remove(end)
        except ssl.SSLWantReadError:
            pass
text = bytes(range(256)) * 32
for number in range(20):
    client.write(text)
    received = b""
    while len(received) < len(text):
        received += server.read(len(text))
    assert received == text
print(client.version(), client.cipher()[0])
print("ok")
