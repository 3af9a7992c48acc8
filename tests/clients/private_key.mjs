// Signs a person in at the server at TENANTRY_URL with openid-client, as apps that prove with a
// private key who they are, and whose ID tokens are signed with ES256. MAILS is the folder of
// mails.

import assert from "node:assert/strict";
import { webcrypto as crypto } from "node:crypto";

import * as client from "openid-client";

import { Person } from "./person.mjs";
import { checkSignIn, discover, isUnauthorized, redirectUri, signIn } from "./protocol.mjs";

const server = process.env.TENANTRY_URL;
const scope = "openid profile email projects:read offline_access";
const person = await Person.signUp();

const algorithms = {
  ES256: { name: "ECDSA", namedCurve: "P-256" },
  RS256: {
    name: "RSASSA-PKCS1-v1_5", hash: "SHA-256", modulusLength: 2048,
    publicExponent: new Uint8Array([1, 0, 1]),
  },
  EdDSA: { name: "Ed25519" },
};

// A key pair, with the public key as the app registers it. Without the changes of `alg`,
// openid-client and its runtime name EdDSA `Ed25519` (RFC 9864), which the server does not know.
async function generateKey(alg) {
  const pair = await crypto.subtle.generateKey(algorithms[alg], false, ["sign", "verify"]);
  const kid = `key-${alg}`;
  const exported = await crypto.subtle.exportKey("jwk", pair.publicKey);
  const jwk = { ...exported, kid, alg, use: "sig" };
  const rename = (header) => Object.assign(header, { alg });
  const options = { [client.modifyAssertion]: rename };
  return { jwk, authentication: client.PrivateKeyJwt({ key: pair.privateKey, kid }, options) };
}

// How an app with this public key is set up.
async function register(name, { jwk, authentication }) {
  const app = await person.registerApp({
    name,
    redirectUris: [redirectUri],
    scopes: scope.split(" "),
    tokenEndpointAuthMethod: "private_key_jwt",
    idTokenSignedResponseAlg: "ES256",
    jwks: { keys: [jwk] },
  });
  assert.equal(app.clientSecret, null);
  const metadata = { id_token_signed_response_alg: "ES256" };
  const connect = (method) => discover(server, app.clientId, method, metadata);
  return { connect, config: await connect(authentication) };
}

for (const alg of Object.keys(algorithms)) {
  const key = await generateKey(alg);
  const { connect, config } = await register(`Wiki ${alg}`, key);
  const { claims } = await checkSignIn(config, person, scope);
  assert.equal(claims.organization_id, person.organizationId);
  const { tokens } = await signIn(config, person, "openid");
  const header = JSON.parse(Buffer.from(tokens.id_token.split(".")[0], "base64url"));
  assert.equal(header.alg, "ES256");

  // Another key proves nothing, and neither does the id of the app alone.
  const { authentication: other } = await generateKey(alg);
  for (const method of [other, client.None()]) {
    const revoking = client.tokenRevocation(await connect(method), tokens.access_token);
    await assert.rejects(revoking, isUnauthorized);
  }
  await client.fetchUserInfo(config, tokens.access_token, claims.sub);
}
