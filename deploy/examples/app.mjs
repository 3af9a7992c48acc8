// A web app that acts for people in their organization, with access that they granted at Tenantry.
//
//   npm install openid-client
//   TENANTRY_URL=https://id.example.com CLIENT_ID=app_… CLIENT_SECRET=… APP_URL=https://app.example.com \
//     node app.mjs
//
// Register the app with the redirect URI APP_URL/callback and the scope projects:read. This example
// keeps everything in memory; keep the tokens of your app where a restart does not lose them.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import * as oauth from 'openid-client';

const { TENANTRY_URL, CLIENT_ID, CLIENT_SECRET, APP_URL, PORT } = process.env;
const issuer = new URL(TENANTRY_URL);
// Without TLS only on this machine.
const execute = issuer.protocol === 'http:' ? [oauth.allowInsecureRequests] : [];
const config = await oauth.discovery(issuer, CLIENT_ID, undefined, oauth.ClientSecretBasic(CLIENT_SECRET), {
  algorithm: 'oauth2',
  execute,
});
const visitors = new Map(); // a cookie's value → what this app knows of the browser

createServer(async (request, response) => {
  const id = /visitor=([\w-]+)/.exec(request.headers.cookie ?? '')?.[1] ?? randomUUID();
  const visitor = visitors.get(id) ?? visitors.set(id, {}).get(id);
  const secure = APP_URL.startsWith('https:') ? '; Secure' : '';
  response.setHeader('set-cookie', `visitor=${id}; HttpOnly; SameSite=Lax; Path=/${secure}`);
  try {
    const url = new URL(request.url, APP_URL);
    if (url.pathname === '/connect') return await connect(visitor, response);
    if (url.pathname === '/callback') return await receive(visitor, url, response);
    if (url.pathname === '/') return await show(visitor, response);
    send(response, 404, { error: 'not found' });
  } catch (error) {
    send(response, 502, { error: error.error ?? error.message });
  }
}).listen(PORT ?? new URL(APP_URL).port);

// Sends the browser to Tenantry. The verifier and the state prove that the answer is for this browser.
async function connect(visitor, response) {
  visitor.verifier = oauth.randomPKCECodeVerifier();
  visitor.state = oauth.randomState();
  const url = oauth.buildAuthorizationUrl(config, {
    redirect_uri: `${APP_URL}/callback`,
    scope: 'projects:read offline_access',
    state: visitor.state,
    code_challenge: await oauth.calculatePKCECodeChallenge(visitor.verifier),
    code_challenge_method: 'S256',
  });
  response.writeHead(303, { location: url.href }).end();
}

async function receive(visitor, url, response) {
  const { verifier, state } = visitor;
  keep(visitor, await oauth.authorizationCodeGrant(config, url, { pkceCodeVerifier: verifier, expectedState: state }));
  response.writeHead(303, { location: '/' }).end();
}

// Lists the projects of the organization that the person chose.
async function show(visitor, response) {
  if (!visitor.tokens) return send(response, 200, { connect: `${APP_URL}/connect` });
  if (Date.now() > visitor.expiresAt) {
    keep(visitor, await oauth.refreshTokenGrant(config, visitor.tokens.refresh_token));
  }
  const { access_token, organization_id } = visitor.tokens;
  const url = new URL(`/api/user/organizations/${organization_id}/projects`, TENANTRY_URL);
  const projects = await fetch(url, { headers: { authorization: `Bearer ${access_token}` } });
  if (projects.status === 401) {
    delete visitor.tokens; // The person, or an administrator, ended the access.
    return send(response, 200, { connect: `${APP_URL}/connect` });
  }
  send(response, projects.status, { organization_id, ...(await projects.json()) });
}

function keep(visitor, tokens) {
  visitor.tokens = tokens;
  visitor.expiresAt = Date.now() + (tokens.expires_in - 30) * 1000;
}

function send(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`);
}
