// What must hold at any provider: these checks run against the server and against a certified
// provider, so that a check that asks for too much is found. openid-client checks everything that
// the provider sends: the issuer, `state`, `nonce`, `max_age`, and the signature and the claims of
// ID tokens.
//
// A person has `authorize(url)`, which signs in, grants everything and returns the URL of the
// answer, `fetch(url)`, which follows no redirect, and `approve(userCode)` and `deny(userCode)`.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";

import * as client from "openid-client";

export const redirectUri = "https://wiki.example.com/callback";

export function discover(issuer, clientId, authentication, metadata = {}, others = {}) {
  const execute = [client.allowInsecureRequests, client.enableNonRepudiationChecks];
  const options = { execute, ...others };
  return client.discovery(new URL(issuer), clientId, metadata, authentication, options);
}

// An authorization request with these parameters, and what its answer is checked with.
export async function authorizationRequest(config, parameters) {
  const pkceCodeVerifier = client.randomPKCECodeVerifier();
  const [expectedNonce, expectedState] = [client.randomNonce(), client.randomState()];
  const url = client.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri,
    code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: "S256",
    nonce: expectedNonce,
    state: expectedState,
    ...parameters,
  });
  const checks = { pkceCodeVerifier, expectedNonce, expectedState, idTokenExpected: true };
  return { url, checks };
}

// The tokens for these scopes, the URL of the answer with the code, and what it was checked with.
export async function signIn(config, person, scope) {
  const request = await authorizationRequest(config, { scope, max_age: "300", prompt: "consent" });
  const callback = new URL(await person.authorize(request.url.href));
  const checks = { ...request.checks, maxAge: 300 };
  const names = [...callback.searchParams.keys()].sort();
  assert.deepEqual(names, ["code", "iss", "state"]);
  const tokens = await client.authorizationCodeGrant(config, callback, checks);
  return { tokens, callback, checks };
}

// The hash of the access token is optional in the ID token beside it (OpenID Connect Core
// §3.1.3.6). It is of the hash function of the ID token's algorithm: SHA-256.
function checkAccessTokenHash(tokens) {
  const digest = createHash("sha256").update(tokens.access_token).digest();
  const expected = digest.subarray(0, 16).toString("base64url");
  assert.ok([undefined, expected].includes(tokens.claims().at_hash));
}

export function isUnauthorized(error) {
  assert.equal(error.status ?? error.cause?.status, 401);
  return true;
}

function checkMetadata(metadata) {
  assert.equal(metadata.authorization_response_iss_parameter_supported, true);
  for (const [member, value] of [
    ["code_challenge_methods_supported", "S256"],
    ["grant_types_supported", "authorization_code"],
    ["grant_types_supported", "refresh_token"],
    ["grant_types_supported", "urn:ietf:params:oauth:grant-type:device_code"],
    ["id_token_signing_alg_values_supported", "RS256"],
    ["response_modes_supported", "form_post"],
    ["response_types_supported", "code"],
    ["scopes_supported", "openid"],
    ["subject_types_supported", "public"],
    ["token_endpoint_auth_methods_supported", "client_secret_basic"],
  ]) {
    assert.ok(metadata[member].includes(value), `${member} has no ${value}`);
  }
}

// A request without PKCE is rejected before the person is asked, and the app learns it.
async function checkThatPkceIsRequired(config, person) {
  const { url, checks } = await authorizationRequest(config, { scope: "openid" });
  url.searchParams.delete("code_challenge");
  url.searchParams.delete("code_challenge_method");
  const response = await person.fetch(url.href);
  const answer = new URL(response.headers.get("location"), url);
  assert.equal(answer.origin + answer.pathname, redirectUri);
  const { error, state, iss } = Object.fromEntries(answer.searchParams);
  const { issuer } = config.serverMetadata();
  assert.deepEqual([error, state, iss], ["invalid_request", checks.expectedState, issuer]);
}

// A code needs its verifier, and is good once: whoever presents it again ends what came of it.
async function checkCodes(config, person) {
  const { url, checks } = await authorizationRequest(config, { scope: "openid" });
  const callback = new URL(await person.authorize(url.href));
  const wrong = { ...checks, pkceCodeVerifier: client.randomPKCECodeVerifier() };
  const rejected = { error: "invalid_grant" };
  await assert.rejects(client.authorizationCodeGrant(config, callback, wrong), rejected);

  const used = await signIn(config, person, "openid");
  const { access_token: token } = used.tokens;
  const { sub } = used.tokens.claims();
  await client.fetchUserInfo(config, token, sub);
  const again = client.authorizationCodeGrant(config, used.callback, used.checks);
  await assert.rejects(again, rejected);
  await assert.rejects(client.fetchUserInfo(config, token, sub), isUnauthorized);
}

// Signs a person in, reads who they are, refreshes, and revokes. The scopes are `openid`,
// `profile`, `email`, `offline_access` and others. Returns the first ID token's claims, those
// after a refresh, and what userinfo says.
export async function checkSignIn(config, person, scope) {
  checkMetadata(config.serverMetadata());
  await checkThatPkceIsRequired(config, person);
  await checkCodes(config, person);

  const { tokens } = await signIn(config, person, scope);
  const claims = tokens.claims();
  assert.equal(tokens.scope, scope);
  assert.equal(claims.aud, config.clientMetadata().client_id);
  checkAccessTokenHash(tokens);
  const userinfo = await client.fetchUserInfo(config, tokens.access_token, claims.sub);
  assert.equal(userinfo.name, "Ann Example");
  assert.equal(userinfo.email, "ann@example.com");
  assert.equal(userinfo.email_verified, true);
  const method = { method: "POST" };
  const posted = await client.fetchUserInfo(config, tokens.access_token, claims.sub, method);
  assert.deepEqual(posted, userinfo);

  const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
  const repeated = refreshed.claims();
  assert.equal(repeated.sub, claims.sub);
  assert.equal(repeated.auth_time, claims.auth_time);
  assert.ok([undefined, claims.nonce].includes(repeated.nonce));
  checkAccessTokenHash(refreshed);
  await client.fetchUserInfo(config, refreshed.access_token, claims.sub);

  await client.tokenRevocation(config, refreshed.refresh_token);
  const { access_token: ended } = refreshed;
  await assert.rejects(client.fetchUserInfo(config, ended, claims.sub), isUnauthorized);
  const refreshing = client.refreshTokenGrant(config, refreshed.refresh_token);
  await assert.rejects(refreshing, { error: "invalid_grant" });
  return { claims, repeated, userinfo };
}

// A device gets tokens when the person approves, and an error when they deny. The scopes include
// `offline_access`. Returns what the device showed, and its tokens.
export async function checkDevice(config, person, scope) {
  const { issuer } = config.serverMetadata();
  const started = await client.initiateDeviceAuthorization(config, { scope });
  assert.equal(new URL(started.verification_uri).origin, issuer);
  assert.ok(started.verification_uri_complete.includes(started.user_code));
  // The library polls while the person answers.
  const polling = client.pollDeviceAuthorizationGrant(config, started);
  await person.approve(started.user_code);
  const tokens = await polling;
  assert.equal(tokens.scope, scope);
  const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
  assert.notEqual(refreshed.refresh_token, tokens.refresh_token);

  const denied = await client.initiateDeviceAuthorization(config, { scope });
  await person.deny(denied.user_code.toLowerCase());
  const ending = client.pollDeviceAuthorizationGrant(config, denied);
  await assert.rejects(ending, { error: "access_denied" });
  return { started, tokens, refreshed };
}
