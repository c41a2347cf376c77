"""Sends pieces of text to a server and prints, as a transcript, what it answers."""

import re
import socket
import subprocess
import time

PAUSE = 0.12
# An inbox that the server makes up, and its INFO, stand for what has them.
SUBSCRIBED = re.compile(rb"MSG answer 1 \d+\r\n\x12.(_INBOX\.[A-Za-z0-9]+)\r\n", re.DOTALL)
INFO = re.compile(rb"INFO \{.*?\r\n")


def escaped(data):
    plain = {0x0D: "\\r", 0x0A: "\\n", 0x09: "\\t", 0x5C: "\\\\"}
    return "".join(plain.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}") for byte in data)


def received(wire):
    wire.settimeout(PAUSE)
    data = b""
    try:
        while piece := wire.recv(1 << 16):
            data += piece
        return data, True
    except ConnectionResetError:
        return data, True
    except TimeoutError:
        return data, False


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def record(server, arguments, ready_line, sent):
    """One exchange with a server of its own: `sent` is a list of (connection's name, bytes)."""
    port = free_port()
    process = subprocess.Popen(
        [server, "-p", str(port), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        while ready_line not in (line := process.stdout.readline()):
            assert line, "the server ended"
        time.sleep(0.02)
        wires = {}
        for name, data in sent:
            if name not in wires:
                wires[name] = socket.create_connection(("127.0.0.1", port))
                received(wires[name])
            wires[name].sendall(data)
            print(f"{name}> {escaped(data)}")
            for other, wire in list(wires.items()):
                heard, is_closed = received(wire)
                if heard:
                    heard = INFO.sub(b"INFO\r\n", SUBSCRIBED.sub(b"SUBSCRIBED\r\n", heard))
                    print(f"{other}< {escaped(heard)}")
                if is_closed:
                    print(f"{other}!")
                    del wires[other]
        print()
        for wire in wires.values():
            wire.close()
    finally:
        process.kill()
        process.wait()


def version_of(server):
    output = subprocess.run([server, "-version"], capture_output=True, text=True).stdout
    return output.split(",")[0].replace(":", "").strip()
