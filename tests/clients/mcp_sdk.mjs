// An MCP client of the TypeScript SDK gets access to the server at TENANTRY_URL: from the metadata of
// the resource to a request with the token, then again with a refresh token. CLIENT_ID is the URL of its
// metadata document; without one, it registers itself. EMAIL and PASSWORD are a person's.

import assert from "node:assert/strict";

import { auth } from "@modelcontextprotocol/sdk/client/auth.js";

const { TENANTRY_URL: url, CLIENT_ID: clientMetadataUrl, EMAIL: email, PASSWORD: password } = process.env;
const redirectUrl = "http://localhost:51234/callback";

// The person's browser, with a cookie jar.
const jar = new Map();
async function browse(path, init = {}) {
  const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
  const headers = { ...init.headers, cookie, origin: url };
  const response = await fetch(new URL(path, url), { ...init, headers, redirect: "manual" });
  for (const line of response.headers.getSetCookie()) {
    const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
    jar.set(name, value);
  }
  return response;
}
const post = (path, body) =>
  browse(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });

assert.equal((await post("/api/auth/sign-in/email", { email, password })).status, 200);
const organizations = await (await browse("/api/user/organizations")).json();
const organizationId = organizations.data[0].id;

// What the person does after the client opened this URL; returns the parameters that the client gets.
async function consent(authorizationUrl) {
  const started = await browse(authorizationUrl);
  assert.equal(started.status, 303, await started.text());
  const page = started.headers.get("location");
  assert.match(page, /^\/oauth2\/consent\?/);
  const html = await (await browse(page)).text();
  assert.match(html, /<strong>unverified<\/strong>/);
  assert.match(html, /sent to <strong>localhost<\/strong>/);
  if (clientMetadataUrl) assert.ok(html.includes(new URL(clientMetadataUrl).host), html);
  const request = new URL(page, url).searchParams.get("request");
  const answered = await post("/oauth2/consent", { request, accept: true, organizationId });
  assert.equal(answered.status, 200);
  const redirect = new URL((await answered.json()).redirect);
  assert.equal(redirect.origin + redirect.pathname, redirectUrl);
  return redirect.searchParams;
}

let client, tokens, verifier, opened;
const provider = {
  redirectUrl,
  clientMetadataUrl,
  clientMetadata: {
    client_name: "MCP client",
    redirect_uris: [redirectUrl],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  state: () => "a-state",
  clientInformation: () => client,
  saveClientInformation: (information) => (client = information),
  tokens: () => tokens,
  saveTokens: (issued) => (tokens = issued),
  redirectToAuthorization: (to) => (opened = to),
  saveCodeVerifier: (text) => (verifier = text),
  codeVerifier: () => verifier,
};

const scope = "projects:read offline_access";
assert.equal(await auth(provider, { serverUrl: url, scope }), "REDIRECT");
if (clientMetadataUrl) assert.equal(client.client_id, clientMetadataUrl);
else assert.match(client.client_id, /^app_/);
const answer = await consent(opened);
assert.deepEqual([answer.get("state"), answer.get("iss")], ["a-state", url]);
const authorizationCode = answer.get("code");
assert.equal(await auth(provider, { serverUrl: url, scope, authorizationCode }), "AUTHORIZED");
assert.equal(tokens.scope, scope);

const projects = async () => {
  const headers = { authorization: `Bearer ${tokens.access_token}` };
  return (await fetch(`${url}/api/user/organizations/${organizationId}/projects`, { headers })).status;
};
assert.equal(await projects(), 200);
const before = tokens.access_token;
assert.equal(await auth(provider, { serverUrl: url, scope }), "AUTHORIZED");
assert.notEqual(tokens.access_token, before);
assert.equal(await projects(), 200);
