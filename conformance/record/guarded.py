#!/usr/bin/env python3
"""Records what nats-server answers a restricted user and one that reaches a limit, for net's `core::tests::reference`.

    record/guarded.py <nats-server> > ../net/src/core/tests/guarded.txt
"""

import pathlib
import sys
import tempfile

from transcript import record, version_of

CONFIGURATION = """
max_control_line: 128
max_subscriptions: 2
authorization {
  users: [
    { user: root, password: pw }
    { user: some, password: pw, permissions: {
        publish: { allow: ["a.>"], deny: ["a.no"] }
        subscribe: { allow: ["b.>", "q workers"], deny: ["b.no"] } } }
  ]
}
"""


def connect(user, verbose="false", password="pw"):
    return f'CONNECT {{"user":"{user}","pass":"{password}","verbose":{verbose},"pedantic":false,"headers":true}}\r\n'.encode()


def exchanges():
    # Before CONNECT nothing else.
    for first in [b"PING\r\n", b"PUB a 0\r\n\r\n", b"SUB a 1\r\n", b"CONNECT {}\r\n"]:
        yield [("a", first)]
    yield [("a", connect("root", password="no") + b"PING\r\n")]
    yield [("a", connect("nobody") + b"PING\r\n")]
    for verbose in ["false", "true"]:
        restricted = connect("some", verbose)
        for publish in [
            b"PUB a.x 1\r\nx\r\n",
            b"PUB a.no 1\r\nx\r\n",
            b"PUB c 1\r\nx\r\n",
            b"PUB c r 1\r\nx\r\n",
            b"PUB a.x c 1\r\nx\r\n",
            b"PUB a.> 1\r\nx\r\n",
            b"HPUB c 12 13\r\nNATS/1.0\r\n\r\nx\r\n",
        ]:
            yield [("a", restricted), ("a", publish), ("a", b"PING\r\n")]
        for subscription in [
            b"SUB b.x 1\r\n",
            b"SUB b.no 1\r\n",
            b"SUB c 1\r\n",
            b"SUB > 1\r\n",
            b"SUB q workers 1\r\n",
            b"SUB q others 1\r\n",
            b"SUB q 1\r\n",
            b"SUB b.x group 1\r\n",
        ]:
            yield [("a", restricted), ("a", subscription), ("a", b"PING\r\n")]
        yield [
            ("a", restricted + b"SUB b.* 1\r\n"),
            ("b", connect("root")),
            ("b", b"PUB b.no 1\r\nx\r\nPUB b.yes 1\r\ny\r\n"),
        ]
        free = connect("root", verbose)
        three = b"SUB a 1\r\nSUB b 2\r\nSUB c 3\r\n"
        yield [("a", free), ("a", three), ("a", b"UNSUB 1\r\nSUB c 3\r\n")]
        yield [("a", free), ("a", b"SUB " + b"x" * 121 + b" 1\r\n")]
        yield [("a", free), ("a", b"SUB " + b"x" * 160 + b" 1\r\n")]
        yield [("a", free), ("a", b"x" * 160)]


def main():
    server = sys.argv[1]
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "conf")
        path.write_text(CONFIGURATION)
        print(f"# What {version_of(server)} answered, recorded by conformance/record/guarded.py with the configuration there.")
        print("# As in reference.txt.\n")
        for sent in exchanges():
            record(server, ["-c", str(path)], "Server is ready", sent)


if __name__ == "__main__":
    main()
