#!/usr/bin/env python3
"""Checks a Writ evidence bundle with nothing but Python's standard library.

Written from ledger/FORMAT.md and not from Writ's own verifier, so that a mistake in one of them shows in the other.
Exit codes: 0 verified, 4 refused, 5 consistent but unauthenticated (no --key), 1 not readable.
"""

import argparse, base64, datetime, hashlib, html, json, re, struct, sys, zlib

MAX_INTEGER, MAX_LINE, MAX_SMALL, MAX_NOTE = 2**53, 30 * 1024, 8 << 20, 64 * 1024
UNLISTED = {"checksums.sha256", "manifest.json", "manifest.sig"}
REQUIRED = UNLISTED | {"VERIFY.md", "checkpoint", "events.jsonl", "proofs/cover", "summary.html", "summary.json"}
TEXT_NAME = re.compile(r"(policies|destinations)/([0-9a-f]{64})\.yaml")
class Refused(Exception):
    """With code, message, and the entry's number or None."""
def require(condition, code, message, entry=None):
    if not condition:
        raise Refused(code, message, entry)
def guarded(code, entry, action, *args):
    try:
        return action(*args)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise Refused(code, f"{type(error).__name__}: {error}", entry) from None
def must(condition, what):
    if not condition:
        raise ValueError(what)
def sha256(data):
    return hashlib.sha256(data).digest()

# --- Ed25519 (RFC 8032) on points in extended coordinates. Slow and simple: there is no secret here.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
def add(p, q):
    a, b, c, d = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0]), 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P
def multiply(scalar, p):
    result = (0, 1, 1, 0)
    while scalar:
        result, p, scalar = add(result, p) if scalar & 1 else result, add(p, p), scalar >> 1
    return result
def is_same(p, q):
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0
def point(data):
    """The point with this encoding; None if the encoding is not canonical or the point is of small order."""
    sign, y = int.from_bytes(data, "little") >> 255, int.from_bytes(data, "little") & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * pow(2, (P - 1) // 4, P) % P
    if len(data) != 32 or y >= P or (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return None if is_same(multiply(8, (x, y, 1, x * y % P)), (0, 1, 1, 0)) else (x, y, 1, x * y % P)
BASE = point(b"\x58" + b"\x66" * 31)
def is_signature(public, message, signature):
    a, r, s = point(public), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    return is_same(multiply(s, BASE), add(r, multiply(h, a)))

# --- Canonical JSON, base64, keys, notes, checkpoints
def canonical(value):
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(canonical(name) + ":" + canonical(item) for name, item in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    must(not isinstance(value, float) and (not isinstance(value, int) or abs(value) <= MAX_INTEGER), "an inexact number")
    return json.dumps(value, ensure_ascii=False)
def unbase64(text):
    data = base64.b64decode(text, validate=True)
    must(base64.b64encode(data).decode() == text, "base64 in another spelling")
    return data
def is_name(name):
    return name != "" and not any(c == "+" or c.isspace() or ord(c) < 32 or 127 <= ord(c) < 160 for c in name)
class Key:
    """`NAME+hex(id)+base64(algorithm || public key)`; algorithm 1 signs, 4 cosigns."""
    def __init__(self, text):
        self.text, (self.name, id, material) = text, text.split("+", 2)
        material = unbase64(material)
        self.algorithm, self.public = material[0], material[1:]
        self.id = sha256(self.name.encode() + b"\n" + material)[:4]
        must(is_name(self.name) and self.id.hex() == id and self.algorithm in (1, 4), "not a key")
        must(len(self.public) == 32 and point(self.public), "not a public key")
def parse_note(data):
    """Text, and signatures as (name, id, bytes)."""
    must(len(data) <= MAX_NOTE, "the note is longer than 64 KiB")
    text, blank, lines = data.decode().rpartition("\n\n")
    must(blank and lines.endswith("\n") and not any(ord(c) < 32 and c != "\n" for c in data.decode()), "not a note")
    signatures = [line.split(" ") for line in lines[:-1].split("\n")]
    for dash, name, blob in signatures:
        must(dash == "\u2014" and is_name(name) and len(unbase64(blob)) > 4, "not a signature line")
    must(len(signatures) <= 64, "more than 64 signatures")
    return text + "\n", [(name, unbase64(blob)[:4], unbase64(blob)[4:]) for _, name, blob in signatures]
def check_note(note, key):
    """`key` signed; any false signature of it is fatal."""
    mine = [signature for name, id, signature in note[1] if (name, id) == (key.name, key.id)]
    must(mine, f"there is no signature of `{key.name}`")
    for signature in mine:
        message = note[0].encode()
        if key.algorithm == 4:
            time, signature = int.from_bytes(signature[:8], "big"), signature[8:]
            message = b"cosignature/v1\ntime %d\n" % time + message
        must(is_signature(key.public, message, signature), f"the signature of `{key.name}` is false")
def parse_checkpoint(note):
    lines = note[0][:-1].split("\n")
    origin, size, root = lines[:3]
    must(is_name(origin) and all(lines) and re.fullmatch("0|[1-9][0-9]*", size) and len(size) < 17, "no checkpoint")
    must(int(size) <= MAX_INTEGER and len(unbase64(root)) == 32, "no checkpoint")
    return origin, int(size), unbase64(root)

# --- Tree (RFC 6962)
def push(peaks, height, hash):
    while peaks and peaks[-1][0] == height:
        height, hash = height + 1, sha256(b"\x01" + peaks.pop()[1] + hash)
    peaks.append((height, hash))
def root_of(leaves, cover, size):
    """Root that (seq, hash) of some leaves lead to with the cover of everything between them."""
    peaks, at, cover = [], 0, iter(cover)
    for seq, leaf in leaves + [(size, None)]:
        while at < seq:
            height = min((seq - at).bit_length(), (at & -at or 1 << 64).bit_length()) - 1
            push(peaks, height, next(cover, None) or must(False, "too few hashes"))
            at += 1 << height
        if leaf:
            push(peaks, 0, leaf)
            at += 1
    must(next(cover, None) is None, "too many hashes")
    root = peaks.pop()[1] if peaks else sha256(b"")
    while peaks:
        root = sha256(b"\x01" + peaks.pop()[1] + root)
    return root
def parse_hashes(data):
    hashes = [unbase64(line) for line in data.decode().split("\n")[:-1]]
    must(data[-1:] in (b"", b"\n") and all(len(hash) == 32 for hash in hashes), "not hashes in base64, one a line")
    return hashes

# --- Archive, manifest, files
def read_archive(data):
    members, at, directory = {}, 0, b""
    while data[at:at + 4] == b"PK\x03\x04":
        crc, size, _, length = struct.unpack("<IIIH", data[at + 14:at + 28].ljust(14, b"\0"))
        start = at + 30 + length
        name, content = data[at + 30:start].decode(), data[start:start + size]
        fixed = struct.pack("<HHHHHIIIHH", 10, 0, 0, 0, 0x21, zlib.crc32(content), len(content), len(content), length, 0)
        must(data[at:at + 30] == b"PK\x03\x04" + fixed and start <= len(data), f"the header of `{name}` is not right")
        must(not members or max(members) < name, f"`{name}` is not in the order of names")
        directory += b"PK\x01\x02\x14\x03" + fixed + struct.pack("<HHHII", 0, 0, 0, 0x81A40000, at) + data[at + 30:start]
        members[name], at = content, start + size
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(members), len(members), len(directory), at, 0)
    must(members and data[at:] == directory + end, "what follows the last member is not the directory")
    return members
MANIFEST = re.compile(
    r'\{"entries":\{"count":N,"selected":N\},"files":\{(?:S:\{"bytes":N,"sha256":"[0-9a-f]{64}"\},?)*\},"key":S,'
    r'"missing":\[(?:S,?)*\],"open":\[(?:S,?)*\],"origin":S,"root":S,"schema":"writ-evidence-1","scope":'
    r'\{(?:"(?:agent|correlation|destination|intent|since|until)":S,?)*\},"size":N\}'
    .replace("S", r'"(?:[^"\\]|\\.)*"').replace("N", "(?:0|[1-9][0-9]*)"))
def read_manifest(data):
    manifest = json.loads(data)
    must(canonical(manifest).encode() == data and MANIFEST.fullmatch(data.decode()), "not as the format says")
    for names in manifest["missing"], manifest["open"]:
        must(sorted(set(names), key=str.encode) == names, "a list that is not sorted")
    must(all(TEXT_NAME.fullmatch(name) for name in manifest["missing"]), "not the name of a text")
    must(all(TEXT_NAME.fullmatch(name) or name == "proofs/consistency" or name in REQUIRED - UNLISTED
             for name in manifest["files"]), "a file that cannot be listed")
    key, root = Key(manifest["key"]), unbase64(manifest["root"])
    must(key.algorithm == 1 and len(root) == 32, "not a ledger's key, or not a root")
    return manifest, key, root
def check_files(members, manifest):
    for name in sorted(set(members) ^ (set(manifest["files"]) | UNLISTED) | REQUIRED - set(members)):
        raise Refused("files", f"`{name}` is missing, or not in the manifest", None)
    for name, content in members.items():
        require(name == "events.jsonl" or len(content) <= MAX_SMALL, "files", f"`{name}` is larger than 8 MiB")
        said, found = manifest["files"].get(name), sha256(content).hex()
        require(said in (None, {"bytes": len(content), "sha256": found}), "files", f"`{name}` hashes to `{found}`")
    sums = "".join(f"{sha256(members[name]).hex()}  {name}\n" for name in sorted(members) if name != "checksums.sha256")
    require(members["checksums.sha256"] == sums.encode(), "checksums", "checksums.sha256 is not right")

# --- Lines
TIME, NEEDED = "%Y-%m-%dT%H:%M:%S.%fZ", {"data", "entry_hash", "prev_hash", "seq", "ts", "type", "v"}
OPTIONAL = {"action", "agent_id", "correlation_id", "dest_key", "intent_id", "run_id"}
def depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, inner), default=0)
def read_form(raw, expected):
    must(len(raw) <= MAX_LINE, "longer than a line can be")
    event = json.loads(raw.decode())
    must("v" in event.keys(), "no version")
    require(type(event["v"]) is int and event["v"] == 1, "entry.version", f"it is of version {event['v']}", expected)
    must(canonical(event).encode() == raw and NEEDED <= set(event) <= NEEDED | OPTIONAL, "not canonical")
    must(all(isinstance(event[name], str) for name in set(event) - {"data", "seq", "v"}), "a member that is no string")
    must(datetime.datetime.strptime(event["ts"], TIME).strftime(TIME) == event["ts"], "not a time")
    must(type(event["seq"]) is int and event["seq"] >= 0 and isinstance(event["data"], dict), "no number, or no data")
    must(depth(event["data"]) <= 33, "nested too deep")
    return event
def read_event(raw, last, manifest):
    expected = last["seq"] + 1 if last else 0
    event = guarded("entry.form", expected, read_form, raw, expected)
    seq, data = event["seq"], event["data"]
    found = sha256(canonical({name: item for name, item in event.items() if name != "entry_hash"}).encode()).hex()
    require(found == event["entry_hash"], "entry.hash", f"hashes to `{found}`, says `{event['entry_hash']}`", seq)
    require((seq > last["seq"] if last else seq == 0) and seq < manifest["size"], "chain.order", "cannot stand here", seq)
    created = (event["type"], data.get("origin"), event["prev_hash"]) == ("ledger.created", manifest["origin"], "0" * 64)
    require(seq or created, "chain.genesis", f"it does not create a ledger `{manifest['origin']}`", seq)
    if last:
        require(seq != expected or event["prev_hash"] == last["entry_hash"], "chain.prev",
                f"it continues `{event['prev_hash']}`, the entry before is `{last['entry_hash']}`", seq)
        require(event["ts"] >= last["ts"], "chain.clock", f"`{event['ts']}` is before `{last['ts']}`", seq)
    return event
def take_key(event, keys):
    data = event["data"]
    if event["type"] == "ledger.created":
        keys.append(Key(data["public_key"]))
    elif event["type"] == "ledger.key_rotated":
        old, new = keys[-1], Key(data["new"])
        statement = f"writ key rotation/v1\n{old.name}\n{old.text}\n{new.text}\n".encode()
        must(data["old"] == old.text and new.name == old.name, "it does not continue the key before")
        for key, signature in (old, data["old_signature"]), (new, data["new_signature"]):
            must(is_signature(key.public, statement, unbase64(signature)), f"`{key.text}` did not sign the rotation")
        keys.append(new)
    must(keys[-1].algorithm == 1, "not a ledger's key")

# --- Rules of record
OUTCOMES = {"action.executed": "succeeded", "action.failed": "failed", "action.unknown": "unknown"}
SENT = {"succeeded", "failed", "unknown"}
STEPS = {  # type: (states it can follow, state it enters)
    "decision.approval_required": ({None, "held", "approved"}, "held"), "decision.allowed": ({None}, "approved"),
    "decision.denied": ({None, "held", "approved"}, "blocked"), "approval.vote": ({"held"}, "held"),
    "approval.granted": ({"held"}, "approved"), "approval.denied": ({"held", "approved"}, "rejected"),
    "approval.expired": ({"held", "approved"}, "expired"), "approval.cancelled": ({"held"}, "cancelled"),
    "action.executing": ({"approved"}, "executing"), "action.executed": ({"executing", "unknown"}, "succeeded"),
    "action.failed": ({"executing", "unknown"}, "failed"), "action.unknown": ({"executing"}, "unknown")}
def text(data, name):
    return data[name] if isinstance(data.get(name), str) else None

class Lives:
    def __init__(self):
        self.states, self.owners, self.open, self.correlations = {}, {}, set(), set()
    def take(self, event):
        kind, data, seq = event["type"], event["data"], event["seq"]
        correlation, intent, live = event.get("correlation_id"), event.get("intent_id"), "intent_id" not in event
        self.correlations |= {correlation} - {None}
        if kind == "agent.registered" and "agent_id" in event:
            self.owners[event["agent_id"]] = text(data, "owner") or ""
        if kind not in STEPS or (live and kind == "decision.denied"):
            return
        sends, ends = kind == "action.executing" or (live and kind == "decision.allowed"), kind in OUTCOMES
        placed = correlation is not None and (not live or ends or kind == "decision.allowed")
        require(placed, "rule.step", f"{kind} does not name what it belongs to", seq)
        id = (live, correlation if live else intent)
        state, digest, voters = self.states.get(id, (None, None, frozenset()))
        sources, after = ({None, "unsent"}, "executing") if live and sends else STEPS[kind]
        if state not in sources or (state == "unknown" and (live or text(data, "resolved_by") is None)):
            code = "rule.no_allow" if sends or ends else "rule.step"
            code = "rule.two_sends" if sends and state in SENT | {"executing"} else code
            raise Refused("rule.duplicate_outcome" if ends and state in SENT else code, f"{kind} follows `{state}`", seq)
        if kind in ("decision.approval_required", "decision.allowed"):
            digest, voters = text(data, "digest"), frozenset()
        if kind in ("approval.vote", "action.executing"):
            require(text(data, "digest") == digest, "rule.digest", "it is for another request than the one held", seq)
        if kind == "approval.vote":
            names = text(data, "operator"), event.get("agent_id"), self.owners.get(event.get("agent_id"))
            require(None not in names, "rule.vote", "nothing says whose vote it is, on whose request, and who owns that", seq)
            voter, *own = [name.strip().encode().lower() for name in names]
            require(voter not in own and voter not in voters, "rule.vote", f"`{names[0]}` votes twice, or on own requests", seq)
            voters |= {voter}
        if kind == "action.failed" and state == "executing" and data.get("sent") is False:
            after = "unsent" if live else "approved"
        (self.open.add if after == "executing" else self.open.discard)(correlation)
        self.states[id] = (after, digest, voters)

# --- Summary
ENDS = set(OUTCOMES) | {"approval.denied", "approval.expired", "approval.cancelled"}
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Evidence</title><style>
body{font:15px/1.5 sans-serif;margin:2em}table{border-collapse:collapse}
th,td{text-align:left;vertical-align:top;padding:.1em 1em .1em 0;border-bottom:1px solid #ccc}
</style></head><body><h1>Evidence</h1><p>Derived from events.jsonl and checked against it by the verifiers.</p>
"""
def render(value):
    if isinstance(value, dict):
        rows = sorted(value.items(), key=lambda member: member[0].encode())
        return "<table>" + "".join(f"<tr><th>{html.escape(n)}</th><td>{render(v)}</td></tr>\n" for n, v in rows) + "</table>"
    if isinstance(value, list):
        return "<ol>" + "".join(f"<li>{render(item)}</li>\n" for item in value) + "</ol>"
    return html.escape(str(value))
class Tally:
    def __init__(self):
        self.types, self.requests = {}, {}
    def take(self, event):
        kind, data, id = event["type"], event["data"], event.get("correlation_id")
        self.types[kind] = self.types.get(kind, 0) + 1
        if id is None or (id not in self.requests and len(self.requests) >= 1000):
            return
        request = self.requests.setdefault(id, {"correlation": id, "ts": event["ts"], "votes": []})
        for name, member in ("action", "action"), ("agent", "agent_id"), ("destination", "dest_key"), ("intent", "intent_id"):
            if member in event:
                request.setdefault(name, event[member])
        method, authority, path = (text(data, name) for name in ("method", "authority", "path"))
        if None not in (method, authority, path):
            request.setdefault("target", f"{method} {authority}{path}")
        if kind.startswith("decision."):
            request["decision"] = kind
        if kind in ENDS:
            request.pop("status", None)
            request |= {"outcome": kind} | ({"status": data["status"]} if type(data.get("status")) is int else {})
        if kind == "approval.vote":
            request["votes"].append(f"{text(data, 'operator') or ''} {text(data, 'verdict') or ''}")
    def files(self, manifest, total):
        summary = {name: manifest[name] for name in ("origin", "scope", "size", "root", "entries")}
        summary |= {"types": self.types, "requests_total": total, "requests": list(self.requests.values())}
        return canonical(summary).encode(), (HEAD + render(summary) + "\n</body></html>\n").encode()

# --- All of it, in the order of FORMAT.md, section 8
def holds(scope, event):
    members = {"agent": "agent_id", "correlation": "correlation_id", "destination": "dest_key", "intent": "intent_id"}
    return all(event.get(members[name]) == scope[name] for name in members if name in scope) \
        and scope.get("since", "") <= event["ts"] and ("until" not in scope or event["ts"] < scope["until"])
def verify(data, key, witnesses, held):
    members = guarded("archive", None, read_archive, data)
    require(0 < len(members.get("manifest.json", b"")) <= MAX_SMALL, "manifest", "there is no manifest.json")
    manifest, own, root = guarded("manifest", None, read_manifest, members["manifest.json"])
    check_files(members, manifest)
    signed = own.name == manifest["origin"] and is_signature(own.public, members["manifest.json"], members["manifest.sig"])
    require(signed, "signature", "manifest.sig is no signature of the ledger's key")
    note = guarded("checkpoint", None, parse_note, members["checkpoint"])
    same = guarded("checkpoint", None, parse_checkpoint, note) == (manifest["origin"], manifest["size"], root)
    require(same, "checkpoint", "it is not of the manifest's origin, size and root")
    guarded("checkpoint", None, check_note, note, own)
    keys, lives, tally, leaves, named, last, selected, inside, lacks = [], Lives(), Tally(), [], set(), None, 0, False, None
    for raw in re.findall(rb"[^\n]*\n|[^\n]+$", members["events.jsonl"]):
        raw = raw[:-1] if raw.endswith(b"\n") else raw + b"\n"  # an unfinished line is no canonical line
        event = read_event(raw, last, manifest)
        seq, data, adjacent = event["seq"], event["data"], event["seq"] == (last["seq"] + 1 if last else 0)
        guarded("key", seq, take_key, event, keys)
        lives.take(event)
        tally.take(event)
        leaves.append((seq, sha256(b"\0" + raw)))
        named |= {f"{folder}/{data[name]}.yaml" for name, folder in (("policy_hash", "policies"), (
            "destinations_hash", "destinations")) if re.fullmatch("[0-9a-f]{64}", text(data, name) or "")}
        lacks = lacks or ((inside or holds(manifest["scope"], event)) and not adjacent)
        inside, last = holds(manifest["scope"], event), event
        selected += inside
    lacks = lacks or (inside and last["seq"] + 1 < manifest["size"])
    found = guarded("proof", None, lambda: root_of(leaves, parse_hashes(members["proofs/cover"]), manifest["size"]))
    require(found == root, "proof", f"lines and proofs/cover lead to root `{base64.b64encode(found).decode()}`")
    require(keys and keys[-1].text == own.text, "key", "the manifest's key is not the one the entries name last")
    texts = {name for name in members if TEXT_NAME.fullmatch(name)}
    right = all(sha256(members[name]).hex() in name for name in texts) and not texts & set(manifest["missing"])
    require(right and texts | set(manifest["missing"]) == named, "texts", "texts are not those the entries name")
    require(sorted(lives.open, key=str.encode) == manifest["open"], "open", f"without an outcome: {lives.open}")
    counts = {"count": len(leaves), "selected": selected}
    require(selected and manifest["entries"] == counts, "scope", f"it is of {counts}")
    require(not lacks or set(manifest["scope"]) - {"since", "until"}, "scope", "an entry inside or beside it is missing")
    summary = tally.files(manifest, len(lives.correlations))
    require(summary == (members["summary.json"], members["summary.html"]), "summary", "it is not what the entries say")
    require(key is None or key.text in [each.text for each in keys], "trust.key", f"it is signed by `{own.text}`")
    for witness in witnesses:
        require(witness.algorithm == 4, "trust.witness", "not the key of a witness")
        guarded("trust.witness", None, check_note, note, witness)
    if held is not None:
        proof = members.get("proofs/consistency", b"")
        guarded("trust.checkpoint", None, check_held, parse_note, held, keys, manifest, root, proof)
    return f"ledger {manifest['origin']}: {selected} entries in {manifest['scope'] or 'all'}, of {manifest['size']}; {own.text}"
def check_held(parse, held, keys, manifest, root, proof):
    note = parse(held)
    origin, size, seen = parse_checkpoint(note)
    signers = [key for key in keys if (key.name, key.id) in [signature[:2] for signature in note[1]]]
    must(origin == manifest["origin"] and signers, "not a checkpoint of this ledger")
    check_note(note, signers[-1])
    if size == manifest["size"]:
        return must(seen == root, "it has another root at the same size: history was rewritten")
    head, _, hashes = proof.partition(b"\n")
    must(head == b"old %d" % size, f"nothing in the bundle leads from {size} entries to its {manifest['size']}")
    hashes = parse_hashes(hashes)
    must(root_of([], hashes[:size.bit_count()], size) == seen, "it is of another ledger, or history was rewritten")
    must(root_of([(size, None)], hashes, manifest["size"]) == root, "proofs/consistency does not lead to the checkpoint")

def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, options in {"bundle": {}, "--key": {"type": Key}, "--checkpoint": {}, "--json": {"action": "store_true"},
                          "--witness": {"type": Key, "action": "append", "default": []}}.items():
        parser.add_argument(name, **options)
    parser.error = lambda message: parser.exit(1, f"verify.py: {message}\n")
    given = parser.parse_args(arguments)
    try:
        data, held = open(given.bundle, "rb").read(), given.checkpoint and open(given.checkpoint, "rb").read()
        message = verify(data, given.key, given.witness, held)
        verdict = {"verdict": "verified" if given.key else "unauthenticated", "message": message}
    except OSError as error:
        verdict = {"verdict": "failed", "message": str(error)}
    except Refused as error:
        code, message, entry = error.args
        verdict = {"verdict": "refused", "code": code, "message": message} | ({"entry": entry} if entry is not None else {})
    print(json.dumps(verdict) if given.json else "\n  ".join(f"{name}: {value}" for name, value in verdict.items()))
    return {"verified": 0, "failed": 1, "refused": 4, "unauthenticated": 5}[verdict["verdict"]]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
