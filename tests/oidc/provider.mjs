// A certified OIDC provider as the issuer of CI tokens: not our code, so that it finds what we and our own issuer got
// wrong in the same way. It signs the full claim set of a GitHub Actions job, for whatever audience is asked for.
//
//   node provider.mjs            prints one line of JSON, {"issuer": URL}, once it listens on a free loopback port
//
//   POST /token                  the provider's own: client_credentials of client "ci", secret "ci", resource=AUDIENCE
//   POST /control/claims  {…}    claims of the tokens to come, over the standard ones; null removes one
//   POST /control/workload {…}   claims of the tokens to come, as another kind of issuer signs them
//   POST /control/rotate         a new key signs and the old one is no longer published
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { exportJWK, generateKeyPair } from 'jose';
import Provider from 'oidc-provider';

const GITHUB = {
  sub: 'repo:acme@111/app@222:ref:refs/heads/main',
  actor: 'alice',
  actor_id: '9',
  base_ref: '',
  event_name: 'push',
  head_ref: '',
  job_workflow_ref: 'acme/shared/.github/workflows/deploy.yml@refs/heads/main',
  job_workflow_sha: '5f1d2c3b4a5968778695a4b3c2d1e0f001122334',
  ref: 'refs/heads/main',
  ref_protected: 'true',
  ref_type: 'branch',
  repository: 'acme/app',
  repository_id: '222',
  repository_owner: 'acme',
  repository_owner_id: '111',
  repository_visibility: 'private',
  run_attempt: '1',
  run_id: '1234567890',
  run_number: '42',
  runner_environment: 'github-hosted',
  sha: '4f2c1d0e9b8a7f6e5d4c3b2a190817263544536f',
  workflow: 'deploy',
  workflow_ref: 'acme/app/.github/workflows/deploy.yml@refs/heads/main',
  workflow_sha: '4f2c1d0e9b8a7f6e5d4c3b2a190817263544536f',
};

let standard = GITHUB;
let claims = GITHUB;
let handle;

async function provide(issuer) {
  const { privateKey } = await generateKeyPair('RS256', { extractable: true });
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: 'ci',
        client_secret: 'ci',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
        token_endpoint_auth_method: 'client_secret_post',
      },
    ],
    jwks: { keys: [{ ...(await exportJWK(privateKey)), alg: 'RS256', use: 'sig' }] },
    cookies: { keys: ['unused'] },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_context, resource) => ({
          scope: '',
          audience: resource,
          accessTokenTTL: 300,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    extraTokenClaims: () => {
      const { sub, ...rest } = claims;
      return rest;
    },
    formats: {
      customizers: {
        // CI issuers sign plain JWTs (`typ: JWT`, a `sub` of their own making), not RFC 9068 access tokens.
        jwt(_context, _token, parts) {
          parts.header = { ...parts.header, typ: 'JWT' };
          parts.payload = { ...parts.payload, sub: claims.sub, nbf: parts.payload.iat };
        },
      },
    },
  });
  handle = provider.callback();
}

const server = createServer(async (request, response) => {
  if (request.method === 'POST' && request.url === '/control/claims') {
    const all = { ...standard, ...JSON.parse(await text(request)) };
    claims = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null));
    response.writeHead(204).end();
  } else if (request.method === 'POST' && request.url === '/control/workload') {
    standard = JSON.parse(await text(request));
    claims = standard;
    response.writeHead(204).end();
  } else if (request.method === 'POST' && request.url === '/control/rotate') {
    await provide(issuer);
    response.writeHead(204).end();
  } else {
    handle(request, response);
  }
});

let issuer;
server.listen(0, '127.0.0.1', async () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  await provide(issuer);
  console.log(JSON.stringify({ issuer }));
});
