// An unmodified OAuth client with a key of its own (RFC 9449): it exchanges a proof, and uses the token that it got.
//
//   node possess.mjs BROKER ROLE ALGORITHM < proof
//
// Prints {"answer", "thumbprint", "own", "other", "bearer"}: the answer, the key's thumbprint, and the status of
// /v1/whoami with that key, with another one, and as a bearer token; or {"error", …} with exit status 1.
import { text } from 'node:stream/consumers';
import * as jose from 'jose';
import * as client from 'openid-client';

const [broker, role, algorithm] = process.argv.slice(2);
const proof = (await text(process.stdin)).trim();

try {
  const configuration = await client.discovery(new URL(broker), 'possess', undefined, client.None(), {
    algorithm: 'oauth2',
    execute: [client.allowInsecureRequests], // plain http, on loopback
  });
  const key = async () => {
    const pair = await client.randomDPoPKeyPair(algorithm, { extractable: true });
    return { pair, handle: client.getDPoPHandle(configuration, pair) };
  };
  const [own, other] = [await key(), await key()];
  const answer = await client.genericGrantRequest(
    configuration,
    'urn:ietf:params:oauth:grant-type:token-exchange',
    {
      subject_token: proof,
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      audience: role,
      purpose: 'look at who I am',
    },
    { DPoP: own.handle },
  );
  const status = async (options) => {
    try {
      const url = new URL('/v1/whoami', broker);
      const answered = await client.fetchProtectedResource(
        configuration, answer.access_token, url, 'GET', undefined, undefined, options,
      );
      return answered.status;
    } catch (error) {
      if (error.status) return error.status;
      throw error;
    }
  };
  const thumbprint = await jose.calculateJwkThumbprint(await jose.exportJWK(own.pair.publicKey));
  console.log(JSON.stringify({
    answer,
    thumbprint,
    own: await status({ DPoP: own.handle }),
    other: await status({ DPoP: other.handle }),
    bearer: await status({}),
  }));
} catch (error) {
  const { error: code, error_description, status, message } = error;
  console.log(JSON.stringify({ error: code ?? message, error_description, status }));
  process.exitCode = 1;
}
