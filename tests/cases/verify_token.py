#!/usr/bin/env python3
"""Judges a token offline, as a verifier would that knows the broker's key set and one status list.

Reads {"token", "list", "jwks", "now"} from standard input; prints "valid" or "invalid". Anything that a verifier must
not accept (another key, another list, an expired list) ends with status 1 and the reason on standard error.

Written against RFC 7515, RFC 7518, RFC 9068 and draft-ietf-oauth-status-list alone: it shares nothing with the broker.
"""
import base64
import json
import sys
import zlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils


def refuse(reason):
    sys.exit(f"refused: {reason}")


def decode(text):
    if "=" in text:
        refuse("padded base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(text):
    return int.from_bytes(decode(text), "big")


def verify(jwk, message, signature):
    if jwk["alg"] == "ES256":
        point = ec.EllipticCurvePublicNumbers(number(jwk["x"]), number(jwk["y"]), ec.SECP256R1())
        if len(signature) != 64:
            refuse("an ES256 signature has 64 bytes")
        der = utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        point.public_key().verify(der, message, ec.ECDSA(hashes.SHA256()))
    elif jwk["alg"] == "EdDSA":
        ed25519.Ed25519PublicKey.from_public_bytes(decode(jwk["x"])).verify(signature, message)
    elif jwk["alg"] == "RS256":
        key = rsa.RSAPublicNumbers(number(jwk["e"]), number(jwk["n"])).public_key()
        key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    else:
        refuse(f"no such algorithm: {jwk['alg']}")


def read(token, typ, jwks):
    header, claims, signature = token.split(".")
    said = json.loads(decode(header))
    if said.get("typ") != typ:
        refuse(f"typ is {said.get('typ')}, not {typ}")
    keys = [key for key in jwks["keys"] if key["kid"] == said["kid"]]
    if len(keys) != 1 or keys[0]["alg"] != said["alg"] or keys[0]["use"] != "sig":
        refuse(f"no key {said['kid']} of {said['alg']} is published")
    try:
        verify(keys[0], f"{header}.{claims}".encode(), decode(signature))
    except Exception as error:  # whatever the library calls it
        refuse(f"the signature does not verify: {error!r}")
    return json.loads(decode(claims))


def main():
    given = json.load(sys.stdin)
    claims = read(given["token"], "at+jwt", given["jwks"])
    if claims["exp"] <= given["now"]:
        refuse("the token has expired")
    if given.get("list") is None:
        return print("valid")
    listed = read(given["list"], "statuslist+jwt", given["jwks"])
    place = claims["status"]["status_list"]
    if listed["sub"] != place["uri"] or listed["iss"] != claims["iss"]:
        refuse(f"the list is {listed['sub']}, the token names {place['uri']}")
    if listed["exp"] <= given["now"] or listed["iat"] > given["now"] + 1 or listed["ttl"] <= 0:
        refuse("the list is not of now")
    if listed["status_list"]["bits"] != 1:
        refuse("the list is not of one bit for each token")
    content = zlib.decompress(decode(listed["status_list"]["lst"]))
    if place["idx"] >= len(content) * 8:
        refuse("the list has no such place")
    print("invalid" if content[place["idx"] // 8] >> (place["idx"] % 8) & 1 else "valid")


main()
