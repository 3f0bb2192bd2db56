// An unmodified OAuth client at the broker's token endpoint: discovery (RFC 8414), then a token exchange (RFC 8693).
//
//   node exchange.mjs BROKER ROLE PURPOSE < proof      prints the answer as one line of JSON
//
// A refusal is printed as {"error", "error_description", "status"}, with exit status 1.
import { text } from 'node:stream/consumers';
import * as client from 'openid-client';

const [broker, role, purpose] = process.argv.slice(2);
const proof = (await text(process.stdin)).trim();

try {
  const configuration = await client.discovery(new URL(broker), 'exchange', undefined, client.None(), {
    algorithm: 'oauth2',
    execute: [client.allowInsecureRequests], // plain http, on loopback
  });
  const answer = await client.genericGrantRequest(configuration, 'urn:ietf:params:oauth:grant-type:token-exchange', {
    subject_token: proof,
    subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
    audience: role,
    purpose,
  });
  console.log(JSON.stringify(answer));
} catch (error) {
  const { error: code, error_description, status, message } = error;
  console.log(JSON.stringify({ error: code ?? message, error_description, status }));
  process.exitCode = 1;
}
