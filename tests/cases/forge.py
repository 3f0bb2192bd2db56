#!/usr/bin/env python3
"""Forges the tokens of catalogue.json: the ones that no well-behaved library would make.

    forge.py keys FOLDER         fresh key pairs, kept in FOLDER/keys.json
    forge.py key-sets FOLDER     prints {issuer: JWKS}: what each issuer has to publish
    forge.py tokens FOLDER       prints {case: {issuer, role, token, control}}; reads FOLDER/issuers.json, {issuer: URL}

A recipe is a good token and what to change about it:

    key, alg         the signing key and the algorithm it really signs with
    issuer           whose token it pretends to be (default: "default")
    role             which role is asked for
    alg_header, kid  what the header says instead; kid null leaves it out
    header, claims   members to set; null removes one. The claims of an issuer's kind are the base
    raw_header, raw_claims   the bytes themselves
    sig              how the signature is mangled
    serialize        how the parts are put together

The issuer "spiffe" is a trust domain: its tokens are JWT-SVIDs.

In values, $ISS, $AUD, $SUB, $JTI and $NOW (as number: $NOW+300) stand for the good token's own, and
$REPEAT:a:9 for nine times "a".
"""
import base64
import hashlib
import hmac
import json
import os
import pathlib
import re
import sys
import time
import uuid

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

CATALOGUE = pathlib.Path(__file__).with_name("catalogue.json")
AUDIENCE = "https://broker.test"
SUBJECT = "repo:acme@111/app@222:ref:refs/heads/main"

# What GitHub Actions signs about a push to main, as far as policies look at it.
GITHUB = {
    "repository": "acme/app", "repository_id": "222", "repository_owner": "acme", "repository_owner_id": "111",
    "repository_visibility": "private", "ref": "refs/heads/main", "ref_type": "branch", "event_name": "push",
    "workflow_ref": "acme/app/.github/workflows/deploy.yml@refs/heads/main",
    "job_workflow_ref": "acme/shared/.github/workflows/deploy.yml@refs/heads/main",
    "runner_environment": "github-hosted", "actor": "alice", "actor_id": "9", "run_id": "1", "run_attempt": "1",
}

# The same of GitLab, Buildkite and a cluster.
GITLAB = {
    "sub": "project_path:acme/app:ref_type:branch:ref:main", "namespace_id": "11", "namespace_path": "acme",
    "project_id": "22", "project_path": "acme/app", "user_id": "9", "user_login": "alice", "pipeline_id": "574",
    "pipeline_source": "push", "job_id": "1", "ref": "main", "ref_type": "branch", "ref_path": "refs/heads/main",
    "ref_protected": "true", "environment": "production", "environment_protected": "true",
    "runner_environment": "gitlab-hosted", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
}
BUILDKITE = {
    "sub": "organization:acme:pipeline:app:ref:refs/heads/main:commit:9f31:step:build", "organization_slug": "acme",
    "organization_id": "0183c4e6-c88c-4e1b-9b8a-2a7f7e9b0f5d", "pipeline_slug": "app",
    "pipeline_id": "0184990a-477b-4fa8-9968-496074483cef", "build_number": 5, "build_branch": "main", "build_tag": None,
    "build_commit": "9f31", "step_key": "build", "job_id": "0184990a-477b-4fa8-9968-496074483cee",
    "build_source": "webhook", "runner_environment": "buildkite-hosted",
}
KUBERNETES = {
    "sub": "system:serviceaccount:prod:deployer",
    "kubernetes.io": {
        "namespace": "prod",
        "serviceaccount": {"name": "deployer", "uid": "11111111-1111-1111-1111-111111111111"},
        "pod": {"name": "p", "uid": "22222222-2222-2222-2222-222222222222"},
        "node": {"name": "n1", "uid": "33333333-3333-3333-3333-333333333333"},
    },
}
BASES = {"github": GITHUB, "gitlab": GITLAB, "buildkite": BUILDKITE, "kubernetes": KUBERNETES}

EC_KEYS = ("ec-a", "ec-2", "ec-b", "ec-evil", "ec-td", "ec-td-x509")
RSA_KEYS = {"rsa-a": (2048, 65537), "rsa-gl": (2048, 65537), "rsa-bk": (2048, 65537), "rsa-k8s": (2048, 65537),
            "rsa-e3": (2048, 3), "rsa-1024": (1024, 65537)}
# Which keys each issuer publishes, the first of them good; "ec-evil" is nobody's.
ISSUERS = {
    "default": ("ec-a", "ec-2", "rsa-a", "rsa-e3", "rsa-1024"),
    "rs-only": ("rsa-a", "ec-a"),
    "single-key": ("ec-a",),
    "eddsa": ("ed-a", "ed-small"),
    "b": ("ec-b",),
    "spiffe": ("ec-td", "ec-td-x509"),
    "github": ("rsa-a",),
    "gitlab": ("rsa-gl",),
    "buildkite": ("rsa-bk",),
    "kubernetes": ("rsa-k8s",),
}
# What keys of a trust bundle are for; the others are an issuer's and sign its tokens.
USES = {"ec-td": "jwt-svid", "ec-td-x509": "x509-svid"}
# What good tokens of an issuer say otherwise than the others.
STANDARD_CLAIMS = {"spiffe": {"iss": None, "sub": "spiffe://td1.test/ns/prod/sa/deployer"}}
ALGORITHM = {"EC": "ES256", "RSA": "RS256", "OKP": "EdDSA"}

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def big_endian(number, length=None):
    return number.to_bytes(length or (number.bit_length() + 7) // 8 or 1, "big")


def to_json(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


# Keys


def make_keys():
    keys = {}
    for kid in EC_KEYS:
        numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
        point = numbers.public_numbers
        keys[kid] = {"kty": "EC", "crv": "P-256", "x": encode(big_endian(point.x, 32)),
                     "y": encode(big_endian(point.y, 32)), "d": encode(big_endian(numbers.private_value, 32))}
    for kid, (bits, exponent) in RSA_KEYS.items():
        private = rsa.generate_private_key(exponent, bits).private_numbers()
        parts = {"n": private.public_numbers.n, "e": exponent, "d": private.d, "p": private.p, "q": private.q}
        keys[kid] = {"kty": "RSA", **{name: encode(big_endian(part)) for name, part in parts.items()}}
    private = ed25519.Ed25519PrivateKey.generate()
    raw = serialization.Encoding.Raw
    keys["ed-a"] = {
        "kty": "OKP", "crv": "Ed25519",
        "x": encode(private.public_key().public_bytes(raw, serialization.PublicFormat.Raw)),
        "d": encode(private.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())),
    }
    # The neutral point: under it one signature is valid for every message.
    keys["ed-small"] = {"kty": "OKP", "crv": "Ed25519", "x": encode(bytes([1]) + bytes(31))}
    return {kid: {**key, "kid": kid} for kid, key in keys.items()}


def published(key):
    public = {name: value for name, value in key.items() if name not in ("d", "p", "q")}
    return {**public, "use": USES.get(key["kid"], "sig"), "alg": ALGORITHM[key["kty"]]}


def key_sets(keys):
    return {issuer: {"keys": [published(keys[kid]) for kid in kids]} for issuer, kids in ISSUERS.items()}


def rsa_key(key):
    n, e, d, p, q = (int.from_bytes(decode(key[name]), "big") for name in "nedpq")
    crt = (d % (p - 1), d % (q - 1), rsa.rsa_crt_iqmp(p, q))
    return rsa.RSAPrivateNumbers(p, q, d, *crt, rsa.RSAPublicNumbers(e, n)).private_key()


def sign(keys, kid, algorithm, message):
    if kid.startswith("hmac:"):  # hmac:<key>:<form>: the public key's bytes as a shared secret; hmac:empty: none
        name, _, form = kid[5:].partition(":")
        secret = b""
        if name != "empty":
            encoding = serialization.Encoding.PEM if form == "pem" else serialization.Encoding.DER
            secret = rsa_key(keys[name]).public_key().public_bytes(
                encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        return hmac.new(secret, message, hashlib.sha256).digest()
    key = keys[kid]
    if key["kty"] == "OKP":
        return ed25519.Ed25519PrivateKey.from_private_bytes(decode(key["d"])).sign(message) if "d" in key else bytes(64)
    if key["kty"] == "EC":
        private = ec.derive_private_key(int.from_bytes(decode(key["d"]), "big"), ec.SECP256R1())
        r, s = utils.decode_dss_signature(private.sign(message, ec.ECDSA(hashes.SHA256())))
        return big_endian(r, 32) + big_endian(s, 32)
    digest = hashes.SHA256()
    pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
    return rsa_key(key).sign(message, pss if algorithm.startswith("PS") else padding.PKCS1v15(), digest)


def mangle(signature, how):
    r, s = signature[:32], signature[32:]
    return {
        "normal": lambda: signature,
        "empty": lambda: b"",
        "flip": lambda: bytes([signature[0] ^ 1]) + signature[1:],
        "trunc": lambda: signature[:-1],
        "raw:zero64": lambda: bytes(64),
        "raw:r0s1": lambda: bytes(63) + b"\1",
        "der": lambda: utils.encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big")),
        "high-s": lambda: r + big_endian(P256_ORDER - int.from_bytes(s, "big"), 32),
        "ed-s-plus-l": lambda: r + (int.from_bytes(s, "little") + ED25519_ORDER).to_bytes(32, "little"),
        "ed-zero": lambda: bytes([1]) + bytes(63),
    }[how]()


# Tokens


class Token:
    """One token of one issuer, from a recipe."""

    def __init__(self, keys, issuer, recipe):
        self.keys, self.recipe = keys, recipe
        self.now = int(time.time())
        self.words = {"$ISS": issuer, "$AUD": AUDIENCE, "$SUB": SUBJECT, "$JTI": str(uuid.uuid4())}

    def value(self, value):
        if isinstance(value, dict):
            return {self.text(name): self.value(member) for name, member in value.items()}
        if isinstance(value, list):
            return [self.value(member) for member in value]
        if not isinstance(value, str):
            return value
        number = re.fullmatch(r"\$NOW([+-]\d+)?", value)
        return self.now + int(number.group(1) or 0) if number else self.text(value)

    def text(self, text):
        text = re.sub(r"\$NOW([+-]\d+)?", lambda match: str(self.now + int(match.group(1) or 0)), text)
        scheme, rest = self.words["$ISS"].split("://")
        text = text.replace("$ISS_UPPER", f"{scheme.upper()}://{rest}").replace("$ISS_HTTPS", f"https://{rest}")
        for word, meaning in self.words.items():
            text = text.replace(word, meaning)
        return re.sub(r"\$REPEAT:(.):(\d+)", lambda match: match.group(1) * int(match.group(2)), text)

    def header(self):
        key = self.recipe["key"]
        if "raw_header" in self.recipe:
            return self.recipe["raw_header"].encode()
        kid = self.recipe.get("kid", key.removeprefix("hmac:").split(":")[0])
        header = {"alg": self.recipe.get("alg_header", self.recipe["alg"]), "typ": "JWT", "kid": kid}
        header.update(self.value(self.recipe.get("header", {})))
        return to_json({name: value for name, value in header.items() if value is not None})

    def claims(self):
        claims = {"iss": "$ISS", "aud": "$AUD", "sub": "$SUB", "iat": "$NOW", "nbf": "$NOW", "exp": "$NOW+300",
                  "jti": "$JTI", **BASES.get(self.recipe.get("issuer"), {})}
        for name, value in self.recipe.get("claims", {}).items():
            if value is None:
                claims.pop(name, None)
            else:
                claims[name] = value
        claims = to_json(self.value(claims))
        raw = self.recipe.get("raw_claims", "")
        if raw.startswith("$DEEP:"):  # that many levels, the outermost object included
            depth = int(raw[6:]) - 1
            claims = claims[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"
        elif raw:
            claims = self.text(raw).encode()
        if "subject_bytes" in self.recipe:
            claims = claims.replace(SUBJECT.encode(), SUBJECT.encode() + bytes.fromhex(self.recipe["subject_bytes"]), 1)
        return claims

    def compact(self):
        recipe = self.recipe
        claims = self.claims()
        how = recipe.get("serialize", "compact")
        head = encode(self.header())
        body = claims.decode() if how == "b64false" else encode(claims)
        message = f"{head}.{body}".encode()
        signature = encode(mangle(sign(self.keys, recipe["key"], recipe["alg"], message), recipe.get("sig", "normal")))
        token = f"{message.decode()}.{signature}"
        return {
            "compact": lambda: token,
            "b64false": lambda: token,
            "extra-dot": lambda: token + ".x",
            "dots": lambda: "." * 1048576,
            "pad": lambda: ".".join(part + "=" * (-len(part) % 4 or 4) for part in token.split(".")),
            "std-alphabet": lambda: f"{message.decode()}.+{signature[1:]}",
            "unused-bits": lambda: token[:-1] + ALPHABET[ALPHABET.index(token[-1]) ^ 1],
            "inner-newline": lambda: token[:9] + "\n" + token[9:],
            "unicode-dot": lambda: token.replace(".", "\u2024"),
            "json-flat": lambda: json.dumps({"payload": body, "protected": head, "signature": signature}),
            "jwe": lambda: ".".join([encode(to_json({"alg": "RSA-OAEP", "enc": "A256GCM", "kid": recipe["key"]}))]
                                    + [encode(os.urandom(length)) for length in (256, 12, 64, 16)]),
        }[how]()


def tokens(keys, urls):
    made = {}
    for case in json.loads(CATALOGUE.read_text()):
        recipe = case.get("recipe")
        if recipe is None:
            continue
        issuer = recipe.get("issuer", "default")
        good = ISSUERS[issuer][0]
        control = {"key": good, "alg": ALGORITHM[keys[good]["kty"]], "issuer": issuer,
                   "claims": STANDARD_CLAIMS.get(issuer, {})}
        # An SVID has no `iss`: where a recipe names one, it is another issuer's.
        url = urls["default" if issuer == "spiffe" else issuer]
        made[case["id"]] = {
            "issuer": issuer,
            "role": recipe.get("role", "app/deploy"),
            "token": Token(keys, url, recipe).compact(),
            "control": Token(keys, url, control).compact(),
        }
    return made


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    command, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    kept = folder / "keys.json"
    if command == "keys":
        kept.write_text(json.dumps(make_keys()))
    elif command == "key-sets":
        json.dump(key_sets(json.loads(kept.read_text())), sys.stdout)
    elif command == "tokens":
        json.dump(tokens(json.loads(kept.read_text()), json.loads((folder / "issuers.json").read_text())), sys.stdout)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
