// Uses the example app as a person does: connects it, sees the projects, and ends its access.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";

import { Person } from "./person.mjs";

const { APP_URL, TENANTRY_URL } = process.env;
const person = await Person.signUp();
const app = await person.registerApp({
  name: "Example",
  redirectUris: [`${APP_URL}/callback`],
  scopes: ["projects:read", "offline_access"],
});
const env = { ...process.env, CLIENT_ID: app.clientId, CLIENT_SECRET: app.clientSecret };
const example = spawn("node", ["example.mjs"], { env, stdio: "inherit" });
try {
  for (let tries = 0; tries < 100; tries++) {
    if (await fetch(APP_URL).then(() => true, () => false)) break;
    await sleep(100);
  }
  const show = async () => (await person.fetch(APP_URL)).json();
  assert.deepEqual(await show(), { connect: `${APP_URL}/connect` });
  const started = await person.fetch(`${APP_URL}/connect`);
  assert.equal(started.status, 303);
  const callback = await person.authorize(started.headers.get("location"));
  assert.equal((await person.fetch(callback)).status, 303);
  const shown = await show();
  assert.equal(shown.organization_id, person.organizationId);
  assert.deepEqual(shown.data, []);

  const grants = await (await person.fetch(`${TENANTRY_URL}/api/user/authorized-apps`)).json();
  const [grant] = grants.data;
  assert.equal(grant.client.name, "Example");
  const path = `${TENANTRY_URL}/api/user/authorized-apps/${grant.id}`;
  const ended = await person.fetch(path, { method: "DELETE" });
  assert.equal(ended.status, 200);
  assert.deepEqual(await show(), { connect: `${APP_URL}/connect` });
} finally {
  example.kill();
}
