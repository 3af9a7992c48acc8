// Signs a person in with openid-client at the server at TENANTRY_URL: what holds at any provider,
// and the claims of this one. MAILS is the folder of mails.

import assert from "node:assert/strict";

import * as client from "openid-client";

import { Person } from "./person.mjs";
import { checkSignIn, discover, redirectUri, signIn } from "./protocol.mjs";

const server = process.env.TENANTRY_URL;
const scope = "openid profile email projects:read offline_access";
const person = await Person.signUp();
const app = await person.registerApp({
  name: "Wiki",
  redirectUris: [redirectUri],
  scopes: scope.split(" "),
});
const secret = client.ClientSecretBasic(app.clientSecret);
const config = await discover(server, app.clientId, secret);
assert.equal(config.serverMetadata().userinfo_endpoint, `${server}/oauth2/userinfo`);

const { claims, repeated, userinfo } = await checkSignIn(config, person, scope);
assert.match(claims.sub, /^acc_/);
assert.equal(claims.organization_id, person.organizationId);
assert.deepEqual(claims.amr, ["pwd"]);
assert.equal(repeated.nonce, undefined);
assert.ok(claims.at_hash && repeated.at_hash);
assert.equal(userinfo.organization_role, "owner");

// About the account alone, in no organization.
const { tokens } = await signIn(config, person, "openid email");
assert.equal(tokens.claims().organization_id, undefined);
const who = await client.fetchUserInfo(config, tokens.access_token, claims.sub);
assert.deepEqual(Object.keys(who).sort(), ["email", "email_verified", "sub"]);
