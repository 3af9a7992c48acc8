// A command line tool that signs in by the device flow of openid-client, at the server at
// TENANTRY_URL. MAILS is the folder of mails.

import assert from "node:assert/strict";

import * as client from "openid-client";

import { Person } from "./person.mjs";
import { checkDevice, discover } from "./protocol.mjs";

const server = process.env.TENANTRY_URL;
const person = await Person.signUp();
const { organizationId } = person;
const scope = "projects:read offline_access";
const app = await person.registerApp({
  name: "Tool", applicationType: "native", tokenEndpointAuthMethod: "none",
  redirectUris: ["http://127.0.0.1/callback"], scopes: scope.split(" "),
});
person.approve = async (userCode) => {
  const { request } = await person.post("/oauth2/device/claim", { userCode });
  await person.post("/oauth2/device/approve", { request, organizationId });
};
person.deny = async (userCode) => {
  const { request } = await person.post("/oauth2/device/claim", { userCode });
  await person.post("/oauth2/device/deny", { request });
};

const options = { algorithm: "oauth2" };
const config = await discover(server, app.clientId, client.None(), {}, options);
const { started, tokens, refreshed } = await checkDevice(config, person, scope);
assert.equal(started.verification_uri, `${server}/device`);
assert.match(started.user_code, /^[B-Z]{4}-[B-Z]{4}$/);
assert.equal(tokens.organization_id, organizationId);
const projects = new URL(`${server}/api/user/organizations/${organizationId}/projects`);
const read = await client.fetchProtectedResource(config, refreshed.access_token, projects, "GET");
assert.equal(read.status, 200);
