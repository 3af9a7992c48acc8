// The stock client of better-auth, with the one line of the README that unwraps our envelope,
// against the server at TENANTRY_URL; the mails are in MAILS, a page of a dashboard is PAGE.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { createAuthClient } from "better-auth/client";

const url = process.env.TENANTRY_URL;
const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
const [line] = readme.match(/^const unwrap = .*$/m);
const jsonParser = new Function(`${line}; return unwrap;`)();

// A browser's cookie jar, which fetch has none of here.
function browser() {
  const jar = new Map();
  const customFetchImpl = async (input, init) => {
    const headers = new Headers(init?.headers);
    const cookies = [...jar].map(([name, value]) => `${name}=${value}`);
    if (cookies.length) headers.set("cookie", cookies.join("; "));
    const response = await fetch(input, { ...init, headers });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = cookie.match(/^([^=]+)=([^;]*)/);
      if (value) jar.set(name, value);
      else jar.delete(name);
    }
    return response;
  };
  return createAuthClient({ baseURL: url, fetchOptions: { jsonParser, customFetchImpl } });
}

async function good(call) {
  const { data, error } = await call;
  assert.equal(error, null, JSON.stringify(error));
  return data;
}

async function refused(call, status, code) {
  const { data, error } = await call;
  assert.equal(data, null);
  assert.equal(error.status, status, JSON.stringify(error));
  assert.equal(error.code, code);
  assert.equal(typeof error.message, "string");
  return error;
}

const email = "ann@example.com";
const password = "a-long-secure-passphrase";
const client = browser();

// Nobody is signed in: what every guard of a page asks.
assert.equal(await good(client.getSession()), null);
assert.equal(await good(client.getSession({ query: { disableCookieCache: true } })), null);
await refused(client.signIn.email({ email, password }), 401, "INVALID_EMAIL_OR_PASSWORD");

const image = "https://example.com/ann.png";
const callbackURL = process.env.PAGE;
const made = await good(
  client.signUp.email({ email, password, name: "Ann Example", image, callbackURL }),
);
assert.equal(made.user.email, email);
assert.equal(made.user.name, "Ann Example");
assert.equal(made.user.emailVerified, false);
assert.equal(made.user.image, null);
assert.ok(made.user.createdAt instanceof Date && made.user.updatedAt instanceof Date);
assert.equal(typeof made.token, "string");
const again = await client.signUp.email({ email, password, name: "Ann Example" });
assert.equal(again.error.code, "USER_ALREADY_EXISTS");

const { session, user } = await good(client.getSession());
assert.deepEqual(user, made.user);
assert.equal(session.userId, user.id);
assert.equal(session.token, session.id);
assert.ok(session.expiresAt > new Date() && session.createdAt <= new Date());
assert.deepEqual([typeof session.ipAddress, typeof session.userAgent], ["string", "string"]);

// A second browser signs in, and the first ends its session by the token that it lists.
const other = browser();
const signedIn = await good(other.signIn.email({ email, password, rememberMe: false }));
assert.equal(signedIn.redirect, false);
assert.equal(signedIn.user.id, user.id);
const listed = await good(client.listSessions());
assert.equal(listed.length, 2);
const theirs = listed.find((it) => it.token !== session.token);
assert.equal((await good(client.revokeSession({ token: theirs.token }))).success, true);
assert.equal(await good(other.getSession()), null);
await refused(client.revokeSession({ token: theirs.token }), 404, "NOT_FOUND");
await refused(client.revokeSession({ token: theirs.token, id: session.id }), 400, "VALIDATION_ERROR");
assert.equal((await good(client.revokeOtherSessions())).count, 0);

// Personal access tokens.
const scopes = ["user:read"];
const key = await good(client.apiKey.create({ name: "ci", scopes, expiresIn: 3600 }));
assert.ok(key.key.startsWith(key.prefix) && key.key.startsWith(key.start));
assert.equal(key.userId, user.id);
assert.equal(key.enabled, true);
assert.equal(key.metadata, null);
assert.ok(key.expiresAt instanceof Date);
// What is answered at its making alone: the secret, and whether it runs out.
const { key: secret, neverExpires, ...shown } = key;
assert.equal(neverExpires, false);
assert.deepEqual(await good(client.apiKey.get({ query: { id: key.id } })), shown);
assert.deepEqual(await good(client.apiKey.list()), [shown]);
const renamed = await good(client.apiKey.update({ keyId: key.id, name: "cd" }));
assert.equal(renamed.name, "cd");
const organizations = await fetch(`${url}/api/user/organizations`, {
  headers: { "x-api-key": secret },
});
const organizationId = (await organizations.json()).data[0].id;
const metadata = { organizationId };
const pinned = await good(client.apiKey.create({ name: "pinned", scopes, metadata }));
assert.deepEqual(pinned.metadata, metadata);
assert.equal((await good(client.apiKey.delete({ keyId: key.id }))).success, true);
await refused(client.apiKey.get({ query: { id: key.id } }), 404, "NOT_FOUND");

// Passwords.
const changed = "another-long-passphrase";
const wrong = { currentPassword: changed, newPassword: changed };
assert.equal((await client.changePassword(wrong)).error.code, "INVALID_EMAIL_OR_PASSWORD");
const right = { currentPassword: password, newPassword: changed, revokeOtherSessions: true };
assert.equal((await good(client.changePassword(right))).user.id, user.id);
assert.equal((await good(client.getSession())).user.id, user.id);

const mails = () => {
  try {
    return readdirSync(process.env.MAILS).map((it) => readFileSync(`${process.env.MAILS}/${it}`, "utf8"));
  } catch {
    return [];
  }
};
const redirectTo = process.env.PAGE;
const stranger = "https://evil.example/";
await refused(client.requestPasswordReset({ email, redirectTo: stranger }), 400, "VALIDATION_ERROR");
assert.equal((await good(client.requestPasswordReset({ email, redirectTo }))).success, true);
let token;
for (let tries = 0; tries < 300 && !token; tries++) {
  await sleep(100);
  const mail = mails().find((it) => it.includes("reset-password"));
  token = mail?.replaceAll("=\r\n", "").match(/tnt_link_[0-9A-Za-z]+/)?.[0];
}
assert.ok(token, "no mail came");
const reset = await good(client.resetPassword({ token, newPassword: password }));
assert.equal(reset.success, true);
assert.equal(reset.callbackURL, redirectTo);
await refused(client.resetPassword({ token, newPassword: password }), 401, "INVALID_OR_EXPIRED_TOKEN");

assert.equal(await good(client.getSession()), null);
await good(client.signIn.email({ email, password }));
assert.equal((await good(client.sendVerificationEmail({ email, callbackURL }))).success, true);
assert.equal((await good(client.signOut())).success, true);
assert.equal(await good(client.getSession()), null);
await refused(client.listSessions(), 401, "AUTHENTICATION_REQUIRED");
