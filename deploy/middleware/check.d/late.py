"""Asks a program whose Tenantry refuses connections at first and answers 40 ms later, for ../check.

Succeeds if the program got the answer.
"""
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

program, port = map(int, sys.argv[1:])
verdict = (
    b'{"valid":false,"code":"key_unknown","organization":null,"key":null,"account":null,'
    b'"retry_after":null,"missing_scopes":[]}'
)


def answer():
    time.sleep(0.04)
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(2)
        client, _ = server.accept()
        client.settimeout(2)
        received = b""
        while not received.endswith(b"}"):
            received += client.recv(65536)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        client.sendall(head % len(verdict) + verdict)
        client.close()


thread = threading.Thread(target=answer)
thread.start()
try:
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{program}/any", headers={"X-Api-Key": "late"}))
except urllib.error.HTTPError as error:
    status = error.code
thread.join()
sys.exit(status != 401)
