// Signs a person in at the server at TENANTRY_URL with openid-client, which checks everything that the
// server sends: the issuer, the signature and the claims of ID tokens, and the subject of userinfo.

import assert from "node:assert/strict";

import * as client from "openid-client";

import { Person } from "./person.mjs";

const server = process.env.TENANTRY_URL;
const redirectUri = "https://wiki.example.com/callback";
const person = await Person.signUp();
const app = await person.registerApp({
  name: "Wiki",
  redirectUris: [redirectUri],
  scopes: ["openid", "profile", "email", "projects:read", "offline_access"],
});

const execute = [client.allowInsecureRequests, client.enableNonRepudiationChecks];
const authentication = client.ClientSecretBasic(app.clientSecret);
const config = await client.discovery(new URL(server), app.clientId, {}, authentication, { execute });
assert.equal(config.serverMetadata().userinfo_endpoint, `${server}/oauth2/userinfo`);

// The tokens for these scopes.
async function signIn(scope) {
  const pkceCodeVerifier = client.randomPKCECodeVerifier();
  const [expectedNonce, expectedState] = [client.randomNonce(), client.randomState()];
  const url = client.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri,
    scope,
    code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: "S256",
    nonce: expectedNonce,
    state: expectedState,
    max_age: "300",
  });
  const callback = new URL(await person.authorize(url));
  const checks = { pkceCodeVerifier, expectedNonce, expectedState, idTokenExpected: true, maxAge: 300 };
  return client.authorizationCodeGrant(config, callback, checks);
}

const tokens = await signIn("openid profile email projects:read offline_access");
const claims = tokens.claims();
assert.match(claims.sub, /^acc_/);
assert.equal(claims.aud, app.clientId);
assert.equal(claims.organization_id, person.organizationId);
assert.deepEqual(claims.amr, ["pwd"]);
const shown = await client.fetchUserInfo(config, tokens.access_token, claims.sub);
assert.equal(shown.name, "Ann Example");
assert.equal(shown.email, "ann@example.com");
assert.equal(shown.email_verified, true);
assert.equal(shown.organization_role, "owner");
const posted = await client.fetchUserInfo(config, tokens.access_token, claims.sub, { method: "POST" });
assert.deepEqual(posted, shown);

const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
const repeated = refreshed.claims();
assert.equal(repeated.sub, claims.sub);
assert.equal(repeated.auth_time, claims.auth_time);
assert.equal(repeated.nonce, undefined);
await client.fetchUserInfo(config, refreshed.access_token, claims.sub);

await client.tokenRevocation(config, refreshed.refresh_token);
await assert.rejects(client.fetchUserInfo(config, refreshed.access_token, claims.sub), (error) => {
  assert.equal(error.status ?? error.cause?.status, 401);
  return true;
});

// About the account alone, in no organization.
const personal = await signIn("openid email");
assert.equal(personal.claims().organization_id, undefined);
const who = await client.fetchUserInfo(config, personal.access_token, claims.sub);
assert.deepEqual(Object.keys(who).sort(), ["email", "email_verified", "sub"]);
