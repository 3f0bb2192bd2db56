"""Signs in-toto statements into DSSE envelopes: a second implementation, of `cryptography`, that shares nothing with the broker.

`sign.py keys FOLDER` makes a key of each kind there and prints their public keys (PEM) as JSON by name.
`sign.py sign FOLDER NAME` signs the payload on standard input with one of them and prints the envelope.
"""

import base64
import json
import pathlib
import sys

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def make(folder):
    keys = {
        "p256": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "rsa": rsa.generate_private_key(65537, 2048),
    }
    public = {}
    for name, key in keys.items():
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / name).write_bytes(pem)
        public[name] = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()
    print(json.dumps(public))


def signature(name, key, message):
    if isinstance(key, ec.EllipticCurvePrivateKey):
        digest = hashes.SHA384() if key.curve.key_size == 384 else hashes.SHA256()
        return key.sign(message, ec.ECDSA(digest))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    if name == "rsa-pss":
        return key.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    return key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def sign(folder, name, payload):
    key = serialization.load_pem_private_key((folder / name.split("-")[0]).read_bytes(), None)
    message = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": name, "sig": base64.b64encode(signature(name, key, message)).decode()}],
    }
    print(json.dumps(envelope))


folder = pathlib.Path(sys.argv[2])
if sys.argv[1] == "keys":
    make(folder)
else:
    sign(folder, sys.argv[3], sys.stdin.buffer.read())
