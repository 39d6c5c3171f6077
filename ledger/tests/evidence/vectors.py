"""Gives every vector to deploy/verify.py and compares its verdict with the one inside the vector."""

import base64
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "deploy"))

import verify  # noqa: E402

FOLDER = ROOT / "ledger/vectors/bundles"


def bundle(vector):
    base, parts, at = (FOLDER / vector["base"]).read_bytes(), [], 0
    for offset, left_out, instead in vector["splices"]:
        parts += [base[at:offset], base64.b64decode(instead)]
        at = offset + left_out
    return b"".join(parts + [base[at:]])


def verdict(vector):
    key = verify.Key(vector["key"]) if "key" in vector else None
    witnesses = [verify.Key(text) for text in vector.get("witnesses", [])]
    held = vector["checkpoint"].encode() if "checkpoint" in vector else None
    try:
        verify.verify(bundle(vector), key, witnesses, held)
    except verify.Refused as refused:
        code, _, entry = refused.args
        return 4, code, entry
    return (0 if key else 5), None, None


def main():
    count, wrong = 0, []
    for path in sorted(FOLDER.glob("*.json")):
        for vector in json.loads(path.read_text()):
            count += 1
            expected = vector["exit"], vector.get("code"), vector.get("entry")
            found = verdict(vector)
            if found != expected:
                wrong.append(f"{path.stem}: {vector['what']}: expected {expected}, found {found}")
    print("\n".join(wrong) or f"{count} vectors agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
