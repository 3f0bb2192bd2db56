#!/usr/bin/env python3
"""An agent of the SPIFFE Workload API that is not ours: grpcio over the stubs of PyPI's `spiffe`, PyCA's certificates.

    workload_api.py SOCKET FOLDER    prints "ready" once it listens at the Unix socket

It is the authority of td1.test. The broker's own identity lasts half a minute, or what FOLDER/minutes says. What it gives a workload it writes into FOLDER, too: svid.der, svid.key, svid.jwt.
"""
import datetime
import json
import pathlib
import sys
import time
from concurrent import futures

import grpc
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from spiffe._proto import workload_pb2 as pb
from spiffe._proto import workload_pb2_grpc

TRUST_DOMAIN = "td1.test"
WORKLOAD = f"spiffe://{TRUST_DOMAIN}/ns/prod/sa/deployer"
BROKER = f"spiffe://{TRUST_DOMAIN}/hallpass"
AUDIENCE = "https://broker.test"
NAME = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIFFE")])


def builder(key, minutes):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(seconds=10))
            .not_valid_after(now + datetime.timedelta(minutes=minutes)))


def usage(signs_certificates):
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False)


def named(uri):
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])


def der(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


class Authority:
    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = (builder(self.key, 1440)
                            .add_extension(x509.BasicConstraints(True, None), True)
                            .add_extension(usage(True), True)
                            .add_extension(named(f"spiffe://{TRUST_DOMAIN}"), False)
                            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
                            .sign(self.key, hashes.SHA256()))
        self.jwt_key = ec.generate_private_key(ec.SECP256R1())

    def x509_svid(self, uri, minutes=5):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (builder(key, minutes)
                       .add_extension(x509.BasicConstraints(False, None), True)
                       .add_extension(usage(False), True)
                       .add_extension(x509.ExtendedKeyUsage(
                           [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
                       .add_extension(named(uri), False)
                       .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
                       .sign(self.key, hashes.SHA256()))
        key = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return der(certificate), key

    def jwt_svid(self, uri, audiences):
        now = int(time.time())
        claims = {"sub": uri, "aud": audiences, "iat": now, "exp": now + 300}
        return jwt.encode(claims, self.jwt_key, algorithm="ES256", headers={"kid": "jwt-1", "typ": "JWT"})

    def jwt_bundle(self):
        key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.jwt_key.public_key()))
        # A standard JWK Set, as SPIRE's agent gives it: without a word of what the keys are for.
        return json.dumps({"keys": [{**key, "kid": "jwt-1"}]}).encode()


class Agent(workload_pb2_grpc.SpiffeWorkloadAPIServicer):
    def __init__(self, authority, folder):
        self.authority = authority
        self.minutes = folder / "minutes"

    def check(self, context):
        if ("workload.spiffe.io", "true") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing")

    def stay(self, context):
        while context.is_active():
            time.sleep(0.1)

    def FetchX509SVID(self, _request, context):
        self.check(context)
        # A short one, so that whoever serves with it is seen to ask for the next.
        minutes = float(self.minutes.read_text()) if self.minutes.exists() else 0.5
        svid, key = self.authority.x509_svid(BROKER, minutes=minutes)
        yield pb.X509SVIDResponse(svids=[pb.X509SVID(
            spiffe_id=BROKER, x509_svid=svid, x509_svid_key=key, bundle=der(self.authority.certificate))])
        self.stay(context)

    def FetchX509Bundles(self, _request, context):
        self.check(context)
        yield pb.X509BundlesResponse(bundles={f"spiffe://{TRUST_DOMAIN}": der(self.authority.certificate)})
        self.stay(context)

    def FetchJWTSVID(self, request, context):
        self.check(context)
        uri = request.spiffe_id or WORKLOAD
        svid = self.authority.jwt_svid(uri, list(request.audience))
        return pb.JWTSVIDResponse(svids=[pb.JWTSVID(spiffe_id=uri, svid=svid)])

    def FetchJWTBundles(self, _request, context):
        self.check(context)
        yield pb.JWTBundlesResponse(bundles={f"spiffe://{TRUST_DOMAIN}": self.authority.jwt_bundle()})
        self.stay(context)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    socket, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    authority = Authority()
    svid, key = authority.x509_svid(WORKLOAD)
    (folder / "svid.der").write_bytes(svid)
    (folder / "svid.key").write_bytes(key)
    (folder / "svid.jwt").write_text(authority.jwt_svid(WORKLOAD, [AUDIENCE]))
    server = grpc.server(futures.ThreadPoolExecutor(8))
    workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(Agent(authority, folder), server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
