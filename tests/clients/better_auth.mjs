// Calls the server at TENANTRY_URL with the stock client of better-auth, and the line of the README that
// unwraps the response envelope. MAILS is the folder of mails; PAGE is a URL of a dashboard.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { createAuthClient } from "better-auth/client";

const url = process.env.TENANTRY_URL;
const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
const [line] = readme.match(/^const unwrap = .*$/m);
const jsonParser = new Function(`${line}; return unwrap;`)();

// A client with a cookie jar, because fetch in Node has none.
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

async function succeeds(call) {
  const { data, error } = await call;
  assert.equal(error, null, JSON.stringify(error));
  return data;
}

async function fails(call, status, code) {
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

// Without a session, as a front end checks whether a user is signed in.
assert.equal(await succeeds(client.getSession()), null);
assert.equal(await succeeds(client.getSession({ query: { disableCookieCache: true } })), null);
await fails(client.signIn.email({ email, password }), 401, "INVALID_EMAIL_OR_PASSWORD");

const image = "https://example.com/ann.png";
const callbackURL = process.env.PAGE;
const created = await succeeds(
  client.signUp.email({ email, password, name: "Ann Example", image, callbackURL }),
);
assert.equal(created.user.email, email);
assert.equal(created.user.name, "Ann Example");
assert.equal(created.user.emailVerified, false);
assert.equal(created.user.image, null);
assert.ok(created.user.createdAt instanceof Date && created.user.updatedAt instanceof Date);
assert.equal(typeof created.token, "string");
const again = await client.signUp.email({ email, password, name: "Ann Example" });
assert.equal(again.error.code, "USER_ALREADY_EXISTS");

const { session, user } = await succeeds(client.getSession());
assert.deepEqual(user, created.user);
assert.equal(session.userId, user.id);
assert.equal(session.token, session.id);
assert.ok(session.expiresAt > new Date() && session.createdAt <= new Date());
assert.deepEqual([typeof session.ipAddress, typeof session.userAgent], ["string", "string"]);

// A second browser signs in, and the first one revokes its session by the listed token.
const other = browser();
const signedIn = await succeeds(other.signIn.email({ email, password, rememberMe: false }));
assert.equal(signedIn.redirect, false);
assert.equal(signedIn.user.id, user.id);
const listed = await succeeds(client.listSessions());
assert.equal(listed.length, 2);
const otherSession = listed.find((it) => it.token !== session.token);
assert.equal((await succeeds(client.revokeSession({ token: otherSession.token }))).success, true);
assert.equal(await succeeds(other.getSession()), null);
await fails(client.revokeSession({ token: otherSession.token }), 404, "NOT_FOUND");
await fails(client.revokeSession({ token: otherSession.token, id: session.id }), 400, "VALIDATION_ERROR");
assert.equal((await succeeds(client.revokeOtherSessions())).count, 0);

// Personal access tokens.
const scopes = ["user:read"];
const key = await succeeds(client.apiKey.create({ name: "ci", scopes, expiresIn: 3600 }));
assert.ok(key.key.startsWith(key.prefix) && key.key.startsWith(key.start));
assert.equal(key.userId, user.id);
assert.equal(key.enabled, true);
assert.equal(key.metadata, null);
assert.ok(key.expiresAt instanceof Date);
// Only the response that creates a token contains the secret and whether it expires.
const { key: secret, neverExpires, ...shown } = key;
assert.equal(neverExpires, false);
assert.deepEqual(await succeeds(client.apiKey.get({ query: { id: key.id } })), shown);
assert.deepEqual(await succeeds(client.apiKey.list()), [shown]);
const renamed = await succeeds(client.apiKey.update({ keyId: key.id, name: "cd" }));
assert.equal(renamed.name, "cd");
const organizations = await fetch(`${url}/api/user/organizations`, {
  headers: { "x-api-key": secret },
});
const organizationId = (await organizations.json()).data[0].id;
const metadata = { organizationId };
const pinned = await succeeds(client.apiKey.create({ name: "pinned", scopes, metadata }));
assert.deepEqual(pinned.metadata, metadata);
assert.equal((await succeeds(client.apiKey.delete({ keyId: key.id }))).success, true);
await fails(client.apiKey.get({ query: { id: key.id } }), 404, "NOT_FOUND");

// Passwords.
const changed = "another-long-passphrase";
const wrong = { currentPassword: changed, newPassword: changed };
assert.equal((await client.changePassword(wrong)).error.code, "INVALID_EMAIL_OR_PASSWORD");
const right = { currentPassword: password, newPassword: changed, revokeOtherSessions: true };
assert.equal((await succeeds(client.changePassword(right))).user.id, user.id);
assert.equal((await succeeds(client.getSession())).user.id, user.id);

const mails = () => {
  try {
    return readdirSync(process.env.MAILS).map((it) => readFileSync(`${process.env.MAILS}/${it}`, "utf8"));
  } catch {
    return [];
  }
};
const redirectTo = process.env.PAGE;
const untrusted = "https://evil.example/";
await fails(client.requestPasswordReset({ email, redirectTo: untrusted }), 400, "VALIDATION_ERROR");
assert.equal((await succeeds(client.requestPasswordReset({ email, redirectTo }))).success, true);
let token;
for (let tries = 0; tries < 300 && !token; tries++) {
  await sleep(100);
  const mail = mails().find((it) => it.includes("reset-password"));
  token = mail?.replaceAll("=\r\n", "").match(/tnt_link_[0-9A-Za-z]+/)?.[0];
}
assert.ok(token, "no mail came");
const reset = await succeeds(client.resetPassword({ token, newPassword: password }));
assert.equal(reset.success, true);
assert.equal(reset.callbackURL, redirectTo);
await fails(client.resetPassword({ token, newPassword: password }), 401, "INVALID_OR_EXPIRED_TOKEN");

assert.equal(await succeeds(client.getSession()), null);
await succeeds(client.signIn.email({ email, password }));
assert.equal((await succeeds(client.sendVerificationEmail({ email, callbackURL }))).success, true);
assert.equal((await succeeds(client.signOut())).success, true);
assert.equal(await succeeds(client.getSession()), null);
await fails(client.listSessions(), 401, "AUTHENTICATION_REQUIRED");
