// A command line tool that signs in by the device flow of openid-client, at the server at TENANTRY_URL
// whose PUBLIC_URL is ISSUER. MAILS is the folder of mails.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import * as oauth from "openid-client";

const { TENANTRY_URL: url, ISSUER: issuer, MAILS: folder } = process.env;

// A person's browser: it keeps the session's cookie.
let cookie = "";
async function post(path, body) {
  const headers = { "content-type": "application/json", cookie };
  const response = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
  const [set] = response.headers.getSetCookie();
  if (set) [cookie] = set.split(";");
  const text = await response.text();
  assert.ok(response.ok, `${path}: ${response.status} ${text}`);
  return JSON.parse(text);
}

async function mailedToken() {
  for (let tries = 0; tries < 100; tries += 1) {
    try {
      const mails = readdirSync(folder).map((it) => readFileSync(`${folder}/${it}`, "utf8"));
      const tokens = mails.map((it) => it.replaceAll("=\r\n", "").match(/tnt_link_[0-9A-Za-z]+/)?.[0]);
      if (tokens[0]) return tokens[0];
    } catch (error) {
      if (error.code !== "ENOENT") throw error;
    }
    await sleep(100);
  }
  throw new Error("no mail came");
}

await post("/api/auth/sign-up/email", {
  email: "ann@example.com", password: "a-long-secure-passphrase", name: "Ann Example",
});
await post("/api/auth/verify-email", { token: await mailedToken() });
const listed = await fetch(`${url}/api/user/organizations`, { headers: { cookie } });
const organizationId = (await listed.json()).data[0].id;
const apps = `/api/user/organizations/${organizationId}/apps`;
const { data: app } = await post(apps, {
  name: "Tool", applicationType: "native", tokenEndpointAuthMethod: "none",
  redirectUris: ["http://127.0.0.1/callback"], scopes: ["projects:read", "offline_access"],
});

// The issuer is the address by which the server is known; it listens at another one here.
const reach = (input, init) => fetch(String(input).replace(issuer, url), init);
const options = {
  algorithm: "oauth2", execute: [oauth.allowInsecureRequests], [oauth.customFetch]: reach,
};
const discover = () =>
  oauth.discovery(new URL(issuer), app.clientId, undefined, oauth.None(), options);
const config = await discover();
const scope = "projects:read offline_access";
const started = await oauth.initiateDeviceAuthorization(config, { scope });
assert.equal(started.verification_uri, `${issuer}/device`);
assert.match(started.user_code, /^[B-Z]{4}-[B-Z]{4}$/);

// The library polls while the person answers.
const polling = oauth.pollDeviceAuthorizationGrant(config, started);
const { request } = await post("/oauth2/device/claim", { userCode: started.user_code });
await post("/oauth2/device/approve", { request, organizationId });
const tokens = await polling;
assert.equal(tokens.scope, scope);
assert.equal(tokens.organization_id, organizationId);
const projects = `${issuer}/api/user/organizations/${organizationId}/projects`;
const read = await oauth.fetchProtectedResource(config, tokens.access_token, new URL(projects), "GET");
assert.equal(read.status, 200);
const refreshed = await oauth.refreshTokenGrant(config, tokens.refresh_token);
assert.notEqual(refreshed.refresh_token, tokens.refresh_token);

// The person denies another request, and the library reports that.
const denied = await oauth.initiateDeviceAuthorization(config, { scope });
const claimed = await post("/oauth2/device/claim", { userCode: denied.user_code.toLowerCase() });
await post("/oauth2/device/deny", claimed);
await assert.rejects(oauth.pollDeviceAuthorizationGrant(config, denied), { error: "access_denied" });
