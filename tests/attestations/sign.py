"""Signs in-toto statements into DSSE envelopes: a second implementation, of `cryptography`, that shares nothing with the broker.

`sign.py keys FOLDER` makes a key of each kind there and prints their public keys (PEM) as JSON by name; with them the
certificate of an authority (PEM), and certificates (DER in base64) of one of the keys, good and bad.
`sign.py sign FOLDER NAME` signs the payload on standard input with one of them and prints the envelope.
"""

import base64
import datetime
import json
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

PAYLOAD_TYPE = "application/vnd.in-toto+json"
IDENTITY = "https://ci.test/build.yml@refs/heads/main"


def make(folder):
    keys = {
        "p256": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "rsa": rsa.generate_private_key(65537, 2048),
        "certified": ec.generate_private_key(ec.SECP384R1()),
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
    public.update(certify(keys["certified"]))
    print(json.dumps(public))


def certify(key):
    authority, stranger = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now, hour = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(hours=1)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "builds of acme")])

    def usage(signature, certificates):
        rest = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign",
             "encipher_only", "decipher_only"), False)
        return x509.KeyUsage(digital_signature=signature, key_cert_sign=certificates, **rest)

    def certificate(subject_key, signing_key, subject, begin, end, *extensions):
        made = x509.CertificateBuilder().issuer_name(name).subject_name(subject).public_key(subject_key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
        for extension in extensions:
            made = made.add_extension(extension, critical=True)
        return made.sign(signing_key, hashes.SHA256())

    def leaf(identity=IDENTITY, signing_key=authority, end=now + hour):
        made = certificate(
            key, signing_key, x509.Name([]), now - 2 * hour, end, usage(True, False),
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]),
            x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CODE_SIGNING]))
        return base64.b64encode(made.public_bytes(serialization.Encoding.DER)).decode()

    root = certificate(authority, authority, name, now - 2 * hour, now + 2 * hour, usage(False, True),
                       x509.BasicConstraints(ca=True, path_length=0))
    return {
        "authority": root.public_bytes(serialization.Encoding.PEM).decode(),
        "certificate": leaf(),
        "self_signed": leaf(signing_key=stranger),
        "expired": leaf(end=now - hour),
        "other_name": leaf(identity="https://ci.test/other.yml@refs/heads/main"),
    }


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
