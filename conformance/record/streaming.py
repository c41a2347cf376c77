#!/usr/bin/env python3
"""Records what nats-streaming-server answers to good and bad requests, for net's `core::tests::reference`.

    record/streaming.py <nats-streaming-server> > ../net/src/core/tests/streaming.txt

Each exchange has a server of its own, with a memory store.
"""

import sys

from transcript import record, version_of

CLUSTER = "test-cluster"
CONNECT = b'CONNECT {"verbose":false,"pedantic":false}\r\n'
INBOXES = b"SUB answer 1\r\nSUB hb 2\r\nSUB in 3\r\n"
GARBLED = b"\x0a\xff"


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(**fields):
    """A protobuf message: f1="text", f6=30."""
    out = b""
    for name, value in fields.items():
        number = int(name[1:])
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def publish(subject, payload, reply="answer"):
    return f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n"


def connect_request(client="me", **more):
    return publish(f"_STAN.discover.{CLUSTER}", message(**{"f1": client, "f2": "hb", "f3": 1, "f4": "conn", **more}))


def ping(payload):
    return publish(f"_STAN.discover.{CLUSTER}.pings", payload)


def stored(channel="foo", on=None, reply="answer", **more):
    fields = {"f1": "me", "f2": "guid", "f3": channel, "f5": "data", "f6": "conn", **more}
    fields = {name: value for name, value in fields.items() if value is not None}
    return publish(f"_STAN.pub.{CLUSTER}.{on or channel}", message(**fields), reply)


def subscribe(channel="foo", **more):
    fields = {"f1": "me", "f2": channel, "f4": "in", "f5": 10, "f6": 30, "f10": 0, **more}
    return publish(f"_STAN.sub.{CLUSTER}", message(**fields))


def leave(service, payload):
    return publish(f"_STAN.{service}.{CLUSTER}", payload)


def exchanges():
    """Arguments of the server, and what each connection sends: (name, bytes)."""
    hello = [("a", CONNECT + INBOXES)]
    me = hello + [("a", connect_request())]

    def alone(sent, start=me, arguments=()):
        return arguments, start + [("a", sent)]

    # Connect: the request, then the heartbeat inbox, then the id.
    connect = f"_STAN.discover.{CLUSTER}"
    yield alone(publish(connect, b""), hello)
    yield alone(publish(connect, GARBLED), hello)
    yield alone(connect_request(f2=""), hello)
    yield alone(connect_request("not this", f2=""), hello)
    for client in ["", "not this", "a.b", "a/b", "a*", "\u00e9", "a\n", "a,b"]:
        yield alone(connect_request(client), hello)
    for client in ["a", "A-b_9", "x" * 100]:
        yield alone(connect_request(client), hello)
    yield alone(connect_request(f5=-3, f6=-2), hello)
    yield alone(connect_request(f3=0, f5=5, f6=3), hello)
    # Without reply it counts all the same.
    request = message(f1="me", f2="hb", f3=1, f4="conn")
    quiet = f"PUB {connect} {len(request)}\r\n".encode() + request + b"\r\n"
    yield alone(stored(), hello + [("a", quiet)])
    # An id whose holder nobody can ask is free.
    yield (), me + [("a", b"UNSUB 2\r\n"), ("b", CONNECT + b"SUB answer 1\r\n"), ("b", connect_request(f4="new")), ("a", stored())]

    # Pings.
    for payload in [message(f1="conn"), message(f1="other"), b"", GARBLED]:
        yield alone(ping(payload))

    # Publishes.
    yield alone(stored())
    yield alone(stored(f4="elsewhere"))
    yield alone(stored(f5=""))
    yield alone(stored(f6=None))
    yield alone(stored(f6="other"))
    yield alone(stored(f1="you"))
    yield alone(stored(f1="you", f6=None))
    yield alone(stored(f1="", f6=None))
    yield alone(stored(f2=""))
    yield alone(stored(f2="", f6="other"))
    yield alone(publish(f"_STAN.pub.{CLUSTER}.foo", b""))
    yield alone(publish(f"_STAN.pub.{CLUSTER}.foo", GARBLED))
    for channel in ["", "foo.*", "foo.>", "*", ">", "f*o", "f>o", ".foo", "foo.", "foo..bar", "foo/bar"]:
        yield alone(stored(channel, "foo"))
    yield alone(stored("a.b.c"))
    yield alone(stored("foo", "bar"))
    # Names differ by more than their case.
    yield alone(stored("foo"), me + [("a", stored("Foo"))])
    yield alone(stored("two"), me + [("a", stored("one"))], arguments=("-mc", "1"))

    # Subscriptions, in the order of their checks.
    yield alone(publish(f"_STAN.sub.{CLUSTER}", b""))
    yield alone(publish(f"_STAN.sub.{CLUSTER}", GARBLED))
    yield alone(subscribe(f1="", f6=0))
    yield alone(subscribe(f6=0, f5=0))
    yield alone(subscribe(f6=-1))
    yield alone(subscribe(f5=0, f10=5))
    yield alone(subscribe(f5=-1))
    yield alone(subscribe("foo.*", f10=5))
    yield alone(subscribe(f10=-1))
    yield alone(subscribe("foo.*", f1="you"))
    for channel in ["", "foo.>", "*", ">", "f*o", "f>o", ".foo", "foo.", "foo..bar", "foo/bar"]:
        yield alone(subscribe(channel))
    yield alone(subscribe(f1="you"))
    yield alone(stored("two"), me + [("a", subscribe("one", f1="you"))], arguments=("-mc", "1"))
    yield alone(subscribe(f3="group", f7="a:b"))
    yield alone(subscribe(f1="you", f3="group", f7="a:b"))
    yield alone(subscribe("foo"), me + [("a", stored("Foo"))])
    yield alone(subscribe("two"), me + [("a", stored("one"))], arguments=("-mc", "1"))
    yield alone(subscribe(), me + [("a", subscribe())], arguments=("-msu", "1"))
    yield alone(subscribe(f7="dur"), me + [("a", subscribe(f7="dur"))])
    yield alone(subscribe(f7="dur"), me + [("a", subscribe(f7="dur"))], arguments=("-msu", "1"))
    yield alone(subscribe(f3="group", f7="a:b"), me + [("a", subscribe())], arguments=("-msu", "1"))
    yield alone(subscribe(f3="group"), me + [("a", subscribe(f3="group"))], arguments=("-msu", "1"))
    for position in range(5):
        yield alone(subscribe(f10=position, f11=1))
    yield alone(subscribe(f7="d:x"))
    yield alone(subscribe(f3="a:b"))

    # Ends of subscriptions: the channel, then the subscription, then the client.
    for service in ["unsub", "subclose"]:
        yield alone(leave(service, GARBLED))
        yield alone(leave(service, b""))
        yield alone(leave(service, message(f1="me", f2="none", f3="in")))
        yield alone(leave(service, message(f1="you", f2="none", f3="in")))
        on_foo = me + [("a", subscribe())]
        yield alone(leave(service, message(f1="me", f2="foo", f3="other")), on_foo)
        yield alone(leave(service, message(f1="you", f2="foo", f3="other")), on_foo)
        yield alone(leave(service, message(f1="you", f2="foo", f3="in")), on_foo)
        yield alone(leave(service, message(f1="me", f2="foo", f3="in")), on_foo)
        end = leave(service, message(f1="me", f2="foo", f3="in"))
        yield alone(end, on_foo + [("a", end)])

    # Ends of clients.
    close = message(f1="me")
    yield alone(leave("close", GARBLED))
    yield alone(leave("close", b""))
    yield alone(leave("close", message(f1="you")))
    yield alone(leave("close", close))
    yield alone(leave("close", close), me + [("a", leave("close", close))])
    for late in [stored(), subscribe(), ping(message(f1="conn"))]:
        yield alone(late, me + [("a", leave("close", close))])


def escaped(data):
    plain = {0x0D: "\\r", 0x0A: "\\n", 0x09: "\\t", 0x5C: "\\\\"}
    return "".join(plain.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}") for byte in data)


def main():
    server = sys.argv[1]
    print(f"# What {version_of(server)} answered, recorded by conformance/record/streaming.py.")
    print("# As in reference.txt; `# weirlog ...` is the command line of the exchange below; SUBSCRIBED is an answer")
    print("# with an ack inbox.\n")
    for arguments, sent in exchanges():
        if arguments:
            print("# weirlog " + " ".join(arguments))
        record(server, arguments, "Streaming Server is ready", sent)


if __name__ == "__main__":
    main()
