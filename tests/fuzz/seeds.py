#!/usr/bin/env python3
"""Writes the seeds of every target into corpus/: of our own making, small, and the same at every run.

What the fuzzer has found is added by hand, under a name that says what it broke.
"""

import gzip
import io
import json
import pathlib
import zipfile

CORPUS = pathlib.Path(__file__).parent / "corpus"


def seed(target, name, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def packed(*entries, method=zipfile.ZIP_DEFLATED):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", method) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 31, 12, 0, 0)), content, method)
    return body.getvalue()


def patched(body, mark, offset, value):
    at = body.rindex(mark) + offset
    return body[:at] + value + body[at + len(value):]


def lines():
    events = {
        "spaced": '{ "a" : 1 , "b" : [ 1.10 , -0.0 , 1E+5 ] }',
        "escapes": r'{"\u0061":"\u003c\/\ud800 \"","a":"second"}',
        "numbers": '{"n":12345678901234567890123,"f":0.1000,"e":1e400}',
        "text": '{"a":" \u2028 \u0085 \U0001f600 ","":null,"t":true}',
        "nested": '{"a":' * 40 + "[]" + "}" * 40,
        "control": '{"a":"\n\0"}',
        "not-utf-8": b'{"a":"\xff"}',
        "two": '{"a":1}{"a":2}',
        "array": '[{"a":1}, 2]',
        "cut": '{"a":"',
        "comma": '{"a":1,}',
    }
    for name, event in events.items():
        seed("compaction", name, event)
        seed("dedup", name, event)
    compact = {
        "event": r'{"type":"av","n":[12,-0.5e+1,true,null],"o":{"a":"\u00e9\\"},"a":"second \ud800"}',
        "text": '{"\u00e9":"\U0001f600 \u2028, and more of it","":"\x7f","a":""}',
        "escaped-key": r'{"\u0061":1,"a":2}',
        "words": '{"a":[true,false,null,{},[]],"type":0}',
        "zero": '{"a":00}',
        "space": '{"a":"a b", "type":1}',
        "control-behind-a-word": '{"a":"12345678!#\x1f"}',
        "lines": '{"a":1,"type":"av","b":2}\n{"a":1,"b":2}\n{"a":1,"type":"b","b":3,"c":4}\n{}\n{"a":1,"b":2,"type":[]}',
        "half-a-character": b'{"a":"12345678\xc3"}',
    }
    for name, event in compact.items():
        seed("plain", name, event)
    seed("ndjson", "lines", '{"a":1}\r\n\n  \t\n{"b": 2}\n[3]\n{"c":')
    seed("ndjson", "mark", b'\xef\xbb\xbf{"a":1}\n{"b":"\xff"}\n\0\n{"c":1}')
    seed("key_value", "lines", "datetime=2026-01-31T12:00:00+0000|aCode=x_1|acc=C0A0|Subject=\\re: a|b\\|e=\r\na=x=y\r=no\n")
    seed("key_value", "bad", b"a=\xff|b=1\nno pair|a=1\n|a=1\n")
    seed("csv", "rows", 'MD5|SHA256|Sender|Time\nab|cd|"a|""b"|t\r\n|||\n1|2\n')
    seed("csv", "row-of-lines", 'MD5|Subject\r\n1|"a\r\nb ""c"""\r\n2|x\r\n')
    seed("csv", "quote-left-open", 'MD5|Subject\n1|"a\n2|x\n3|"b"c\n4|y')
    seed("csv", "bad", b"a|b\n\xff|1\n2|\"\xff\n\"\n3|x\n")
    seed("array", "siem", '{"type":"MTA","data":[{"a":1},\n {"b":[1, 2]},3,{"c":}]}')
    seed("array", "others", '{"x":{"data":[1]},"d\\u0061ta":[{"a":"]}"}],"data":[{"b":2}],"fail":[]}')
    seed("array", "broken", '{"data":[{"a":1} {"b":2},{"c":3}')
    seed("array", "without", '{"meta":{"a":[1,2]},"objects":[{}]}')
    seed("sniff", "json", '{"type":"MTA","data":[{"acc":"x"}]}')
    seed("sniff", "bundle", '{"type":"bundle","id":"b","objects":[{"type":"malware"}]}')
    seed("sniff", "ndjson", '{"type":"av"}\n{"type":"av"}\n')
    seed("sniff", "key-value", "datetime=2026|a=1\r\n")
    seed("sniff", "csv", "MD5|SHA256\n1|2\n")
    seed("sniff", "html", "<html>")


def archives():
    line = b'{"a":1}\n'
    seed("archive", "plain", line)
    seed("archive", "gzip", gzip.compress(line * 9, mtime=0))
    seed("archive", "gzip-members", gzip.compress(line, mtime=0) + gzip.compress(line, mtime=0))
    seed("archive", "gzip-cut", gzip.compress(line * 9, mtime=0)[:-9])
    seed("archive", "gzip-bomb", gzip.compress(bytes(1 << 20), mtime=0))
    seed("archive", "zip", packed(("receipt_1.json", line), ("av_1.json", line * 99)))
    seed("archive", "zip-stored", packed(("a.json", line), method=zipfile.ZIP_STORED))
    seed("archive", "zip-names", packed(("../../x", line), ("/etc/x", b""), ("a\\b\0c", b""), ("d/", b"")))
    seed("archive", "zip-empty", packed())
    seed("archive", "zip-bomb", packed(("a.json", bytes(1 << 20))))
    one = packed(("a.json", line), ("b.json", line))
    seed("archive", "zip-name-twice", one.replace(b"b.json", b"a.json"))
    seed("archive", "zip-encrypted", patched(one, b"PK\1\2", 8, b"\1"))
    seed("archive", "zip-method", patched(one, b"PK\1\2", 10, b"\x63"))
    seed("archive", "zip-checksum", patched(one, b"PK\1\2", 16, b"\0\0"))
    seed("archive", "zip-size", patched(one, b"PK\1\2", 24, b"\1\0\0\0"))
    seed("archive", "zip-overlapping", patched(one, b"PK\1\2", 42, b"\0\0\0\0"))
    seed("archive", "zip-cut", one[:-9])


def answers():
    def answer(target, name, first, *headers, body=""):
        body = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
        seed(target, name, "\n".join([first, *headers]) + "\n\n" + body)

    page = {"meta": {"status": 200, "pagination": {"pageSize": 2, "totalCount": 7, "next": "t"}},
            "data": [{"clickLogs": [{"n": 1}, {"n": 2}]}], "fail": []}
    fail = lambda code, text: {"meta": {"status": 200}, "data": [], "fail": [{"errors": [{"code": code, "message": text}]}]}
    mimecast = lambda *parts, **body: answer("mimecast_answer", *parts, **body)
    mimecast("page", "page 200", "date: Sat, 31 Jan 2026 12:00:00 GMT", body=page)
    mimecast("page-fail", "page 200", body=fail("err_developer_key", "App ID is invalid"))
    mimecast("page-token", "page 400", body={"fail": [{"code": "err_validation", "message": "pageToken invalid"}]})
    mimecast("page-meta", "page 200", body={"meta": {"status": 503}, "data": None})
    mimecast("page-html", "page 503", "x-request-id: abc", body="<html>")
    mimecast("page-broken", "page 200", body='{"meta":{"status":200},"data":[{"a":1},{')
    mimecast("page-redirect", "page 302", "location: https://elsewhere.example/")
    mimecast("page-long-complaint", "page 400", body={"error": {"code": "c", "message": "long " * 500}})
    mimecast("quota", "page 429", "x-ratelimit-reset: 4728")
    mimecast("quota-epoch", "page 429", "x-rate-limit-reset: 1769860800", "retry-after: 9")
    mimecast("quota-odd", "page 429", "x-ratelimit-reset: -1", "retry-after: 18446744073709551615")
    mimecast("permission", "page 403", body=fail("err_xdk_invalid_signature", "0004 Invalid Signature"))
    mimecast("binding", "page 418", body=fail("err_xdk_binding_expired", "0003 Binding Expired"))
    mimecast("date-far", "page 200", "date: Fri, 31 Dec 9999 23:59:59 +0000", body=page)
    mimecast("date-near", "page 200", "date: Sat, 31 Jan 2026 12:00:00 -9999", body=page)
    mimecast("file", "file 200", "mc-siem-token: next", 'content-disposition: attachment; filename="a/b\\receipt_1.json"; x=y',
             body='{"type":"MTA","data":[{"a":1}]}')
    mimecast("file-none", "file 200", "mc-siem-token: ", body={"meta": {"isLastToken": True, "status": 200}, "data": [], "fail": []})
    mimecast("file-name", "file 200", "content-disposition: filename=", body="a=1|b=2")
    mimecast("listing", "listing 200", body={"value": [{"url": "https://x.example/files/a.json.gz?X-Amz-Signature=1"}],
                                             "@nextPage": "t", "isCaughtUp": False})
    mimecast("listing-odd", "listing 200", body={"value": [{"url": "ftp://x?a"}, {"url": ""}, {"url": "http://127.0.0.1/#?"}]})
    mimecast("listing-none", "listing 200", body={"value": None})
    mimecast("token", "token 200", body={"access_token": "abc", "expires_in": 1799})
    mimecast("token-for-ever", "token 200", body={"access_token": "abc", "expires_in": 18446744073709551615})
    mimecast("token-refused", "token 400", body={"error": "invalid_client"})
    mimecast("token-line-end", "token 200", body={"access_token": "a\nb", "expires_in": 1})
    devo = lambda *parts, **body: answer("devo_answer", *parts, **body)
    devo("accepted", "devo 200")
    devo("too-large", "devo 413")
    devo("refused", "devo 400", body="no\r\n such\0 table " + "x" * 300)
    devo("forbidden", "devo 403", body="token s3cr3t-k3y is not for this domain")
    devo("busy", "devo 429", "retry-after: 7")
    devo("busy-for-ever", "devo 503", "retry-after: 18446744073709551615")
    devo("redirect", "devo 307", "location: https://elsewhere.example/token!s3cr3t-k3y")


def frames():
    seed("relp", "open", "1 rsp 42 200 OK\nrelp_version=0\ncommands=syslog,close\n")
    seed("relp", "answer", "7 rsp 6 200 OK\n8 rsp 9 500 error\n")
    seed("relp", "hint", "0 serverclose 0\n")
    seed("relp", "odd", "007 rsp 016001 x")
    seed("dedup", "pages", "aab\nba\n\nab\n!aa\n\n!aaab\n")
    seed("dedup", "crashes", "aab\n?ba\n\n?ab\n?aa\n\n!a\n?aab\n")
    seed("dedup", "runs", "!a\n!a\n!a\n\na!a\n")


lines()
archives()
answers()
frames()
