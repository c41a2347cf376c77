#!/usr/bin/env python3
"""Writes the seeds of the targets about what comes over sockets and from operators: sessions as clients and servers
hold them, STAN's messages field by field, requests, files. The same each time: `git diff` shows what changed.

Seeds of the other targets are what engine tests write to disk; README.md says where from."""

import base64
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"


def write(target, name, content):
    path = CORPUS / target / f"seed-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


# The protocols: two bytes that say where the input is cut, then what is said. Lines are short, as the targets' limits.

def session(cut, *lines):
    return struct.pack("<H", cut) + b"".join(line if isinstance(line, bytes) else line.encode() for line in lines)


write("nats_parse", "stan", session(
    90,
    'CONNECT {"verbose":false,"headers":true}\r\n', "PING\r\n", "SUB hb 1\r\n", "SUB _INBOX.a.* 2\r\n",
    "PUB _STAN.discover.c _INBOX.a.1 14\r\n", b"\n\x02me\x12\x02hb\x18\x01\"\x02id\r\n",
    "PUB _STAN.pub.c.foo _INBOX.a.2 17\r\n", b"\n\x02me\x12\x01g\x1a\x03foo*\x03one\r\n",
    "PUB _INBOX.WL.A 7\r\n", b"\n\x03foo\x10\x01\r\n", "UNSUB 2 5\r\n", "PONG\r\n"))
write("nats_parse", "headers", session(
    40, "HPUB a.b 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "hpub a r 12 12\r\nNATS/1.0\r\n\r\n\r\n", "SUB a.> q 9\r\n", "UNSUB 9\r\n"))
write("nats_parse", "manners", session(
    11, "ping  x y\n", "sub\ta\t1\r\n", "+OK\r\n", "-ERR 'x'\r\n", "INFO {}\r\n", "PUB a  0\r\n\r\n", "PUB a 3\r\nab\r\n"))
write("server_parse", "stan", session(
    60,
    'INFO {"server_id":"N","headers":true,"nonce":"abc"} \r\n', "PING\r\n", "PONG\r\n", "+OK\r\n",
    "MSG _STAN.discover.c 2 _INBOX.a.1 14\r\n", b"\n\x02me\x12\x02hb\x18\x01\"\x02id\r\n",
    "MSG _STAN.pub.c.foo 3 17\r\n", b"\n\x02me\x12\x01g\x1a\x03foo*\x03one\r\n"))
write("server_parse", "nobody", session(
    33, "HMSG _INBOX.WL.R0 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", "HMSG a 1 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
    "-ERR 'Authorization Violation'\r\n"))


# STAN's messages, by the field numbers of protocol.proto.

def varint(number):
    number &= (1 << 64) - 1
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def message(**fields):
    out = b""
    for name, value in fields.items():
        number = int(name.rsplit("_", 1)[1])
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            value = value.encode()
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


for name, content in {
    "pub-msg": message(client_1="me", guid_2="g1", subject_3="foo", reply_4="r", data_5="one", conn_6="id", sha_10="s"),
    "pub-ack": message(guid_1="g1", error_2="stan: invalid publish request"),
    "msg": message(sequence_1=300, subject_2="foo", reply_3="r", data_4="one", time_5=1764245345000000000,
                   redelivered_6=1, count_7=2, crc_10=0xFFFFFFFF),
    "ack": message(subject_1="foo", sequence_2=(1 << 64) - 1),
    "connect": message(client_1="me", heartbeats_2="hb.me", protocol_3=1, conn_4="id", interval_5=5, out_6=3),
    "connect-response": message(pub_1="_STAN.pub.c", sub_2="_STAN.sub.c", unsub_3="_STAN.unsub.c", close_4="_STAN.close.c",
                                error_5="e", subclose_6="_STAN.subclose.c", ping_7="_STAN.discover.c.pings", interval_8=5,
                                out_9=3, protocol_10=1, key_100="k"),
    "subscribe": message(client_1="me", subject_2="foo", group_3="q", inbox_4="in", flight_5=1024, wait_6=30,
                         durable_7="d", start_10=3, sequence_11=7, delta_12=-1),
    "unsubscribe": message(client_1="me", subject_2="foo", inbox_3="_INBOX.WL.A", durable_4="d"),
    "control": message(kind_1=4, server_2="s", data_3="\3\0foo\5\0bar.>"),
}.items():
    write("stan_wire", name, content)


# What client and server say of themselves.

write("connect_json", "client", '{"verbose":false,"pedantic":false,"echo":true,"headers":true,"no_responders":true,'
      '"protocol":1,"lang":"go","version":"1.31.0","name":"n","user":"ann","pass":"pw","tls_required":false}')
write("connect_json", "key", '{"VERBOSE":false,"nkey":"UA","sig":"c2ln","jwt":"ey.ey.c2ln","auth_token":"t","account":""}')
write("connect_json", "nothing", '{"name":null,"sig":null,"nonce":null,"x":[1,{"y":"\\u00e9"}],"protocol":0}')
write("connect_json", "server", '{"server_id":"N","version":"2.10.0","proto":1,"headers":true,"max_payload":1048576,'
      '"tls_required":true,"tls_available":true,"nonce":"abcdefghijk","connect_urls":["h:4222"],"ldm":true}')


# Requests to the monitoring port.

write("http_head", "page", "GET /streaming/channelsz?channel=a%20b&subs=1&offset=2&limit=3 HTTP/1.1\r\nHost: h\r\n"
      "Connection: keep-alive\r\nAccept: */*\r\n\r\nGET /varz HTTP/1.0\r\n\r\n")
write("http_head", "proxy", "HEAD http://h:8222/connz?callback=f.g HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
write("http_head", "refused", "POST /varz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")


# What proves who somebody is. Lines: name, password, key, token, allowed, denied, a subject, what a client says.

def key(prefix, content):
    checked = prefix + content
    total = 0
    for byte in checked:
        total ^= byte << 8
        for _ in range(8):
            total = (total << 1 ^ (0x1021 if total & 0x8000 else 0)) & 0xFFFF
    return base64.b32encode(checked + struct.pack("<H", total)).decode().rstrip("=")


SEED = key(bytes([149, 0]), bytes([5] * 32))
PUBLIC = key(bytes([20 << 3]), bytes(range(32)))
HASH = "$2a$04$" + "." * 21 + "O" + "." * 31
write("proof", "seed", f"  {SEED} \n")
write("proof", "credentials", "-----BEGIN NATS USER JWT-----\neyJ0.eyJq.c2ln\n------END NATS USER JWT------\n\n"
      f"-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n")
write("proof", "user", f'ann\npw\n{PUBLIC}\nt\na.*,b q,_STAN.pub.c.>\na.no\na.b\n{{"user":"ann","pass":"pw"}}')
write("proof", "hash", f'ann\n{HASH}\n\n\n>\nx\na.b\n{{"user":"ann","pass":"pw"}}')
write("proof", "signed", f'ann\npw\n{PUBLIC}\n\n>\nx\na\n{{"nkey":"{PUBLIC}","sig":"{"A" * 86}"}}')


# Subjects: three patterns and a subject in lines, or one name.

write("subjects", "patterns", "a.*\n*.b.>\na.b.>\na.b.c")
write("subjects", "all", ">\n*\n*.*\na")
write("subjects", "ack", "_INBOX.WL.A3f" + "0123456789abcdef" * 2)
write("subjects", "reply", "_INBOX.WL.R0001" + "0123456789abcdef")
write("subjects", "publish", "_STAN.pub.cluster.foo.bar")
write("subjects", "partition", b"\3\0foo\5\0bar.>\1\0*")
write("subjects", "about", b"\1" + struct.pack("<iii", 1, 5, 3) + b"_INBOX.hb")


# The first line is the command line, the rest is each file.

ONE = """listen: 127.0.0.1:5222
http: 8222, debug: yes, logtime: off, max_payload: 2MB, max_pending: 128MB, ping_interval: "30s"
authorization {
  timeout: 2
  default_permissions { publish: "a.>", subscribe: [b, "c q"] }
  users: [
    { user: ann, password: "pw", permissions { pub { allow: a, deny: [b] }, allow_responses: { max: 2, expires: "1m" } } }
    { nkey: %s }
  ]
}
no_auth_user: ann
tls { cert_file: c.pem, key_file: k.pem, ca_file: ca.pem, verify: true, timeout: 1, handshake_first: 300ms }
streaming {
  cluster_id: other, store: file, dir: /data, sd: true, hbi: 1s, hbt: 2s, hbf: 3
  store_limits { mc: 10, mm: 10k, mb: 64MB, ma: 1h, mi: 1s, channels { "foo.*" { mm: 0 }, bar { ma: "2h", msu: 5 } } }
}
""" % PUBLIC
write("options", "one-file", "-c f\n" + ONE)
write("options", "upstream", "-sc f -p -1\nns: \"nats://ann:p%40w@a:1,tls://b\"\nusername: ann\npassword: pw\npartitioning: true\n"
      "limits { channels { a {} } }\nsecure: true\n")
write("options", "two-files", "-c f -sc g -t\nstreaming { id: x }\n")
write("options", "words", "serve --mm=5 -mb 64kb -ma 1m30s -hbi .5s --shards 0x8 -a [::1] -m :8222 -client_advertise h:1 -sl ldm=7 "
      "-remote_syslog udp://h:514 -lame_duck_duration 2m\n")
write("options", "bench", "bench -s h:1 -pub 2 -n 10 -size 1kb\n")
write("options", "sim", "sim -seed 0xff --without power,lag -shrink=false\n")
