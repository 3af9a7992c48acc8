// A person grants access in Chromium at the server at TENANTRY_URL: to an app with openid-client,
// which gets its answers at a callback of its own, and to a device. The pages work under their
// content security policy, and report no error on the console. CHROMIUM is the browser's program,
// MAILS the folder of mails; the current folder is for the browser's files.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";

import * as client from "openid-client";

import { openBrowser, runFlows } from "./chromium.mjs";
import { Person, email, password } from "./person.mjs";
import { authorizationRequest, discover } from "./protocol.mjs";

const server = process.env.TENANTRY_URL;

// The app's callback. Each answer that it receives is a `Request`, which openid-client reads.
const answers = [];
const callback = createServer(async (request, response) => {
  const { method, headers, url } = request;
  if (url === "/favicon.ico") {
    response.writeHead(204).end();
    return;
  }
  const body = method === "POST" ? Buffer.concat(await request.toArray()) : undefined;
  answers.push(new Request(`http://${headers.host}${url}`, { method, headers, body }));
  response.setHeader("content-type", "text/html");
  response.end("<!doctype html><title>App</title><h1>App</h1>");
});
callback.listen(0, "127.0.0.1");
await once(callback, "listening");
const site = `127.0.0.1:${callback.address().port}`;
const redirectUri = `http://${site}/callback`;

const person = await Person.signUp();
const scope = "openid profile email projects:read offline_access";
const app = await person.registerApp({
  name: "Wiki", redirectUris: [redirectUri], scopes: scope.split(" "),
});
const secret = client.ClientSecretBasic(app.clientSecret);
const config = await discover(server, app.clientId, secret);

async function signIn(page) {
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await page.getByLabel("E-mail address").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
}

// Waits for the page on which the person is asked for consent, and chooses the organization there.
async function review(page, name) {
  await page.getByRole("heading", { name: `${name} requests access` }).waitFor();
  await page.getByText(`You are signed in as ${email}.`).waitFor();
  await page.getByRole("radio", { name: person.organizationId }).check();
}

// Sends the browser to the authorization endpoint; returns what the answer is checked with.
async function request(page, parameters) {
  const all = { redirect_uri: redirectUri, scope, ...parameters };
  const { url, checks } = await authorizationRequest(config, all);
  await page.goto(url.href, { waitUntil: "commit" });
  return checks;
}

// The answer that the browser brings to the app's callback, and its parameters.
async function receive(page, method) {
  await page.waitForURL((url) => url.host === site);
  await page.getByRole("heading", { name: "App" }).waitFor();
  assert.equal(answers.length, 1);
  const answer = answers.pop();
  assert.equal(answer.method, method);
  const text = method === "POST" ? await answer.clone().text() : new URL(answer.url).search;
  return { answer, parameters: Object.fromEntries(new URLSearchParams(text)) };
}

async function grantToApp() {
  const page = await openBrowser();
  const checks = await request(page);
  await page.getByText("Sign in to continue to Wiki.").waitFor();
  await signIn(page);
  await review(page, "Wiki");
  await page.getByText("Afterwards you are sent to 127.0.0.1.").waitFor();
  const boxes = await page.getByRole("checkbox").all();
  assert.equal(boxes.length, scope.split(" ").length);
  for (const box of boxes) assert.ok(await box.isChecked());
  await page.getByRole("button", { name: "Allow" }).click();
  const { answer, parameters } = await receive(page, "GET");
  assert.deepEqual(Object.keys(parameters).sort(), ["code", "iss", "state"]);
  assert.equal(parameters.iss, server);
  const tokens = await client.authorizationCodeGrant(config, answer, checks);
  assert.equal(tokens.scope, scope);
  assert.equal(tokens.claims().organization_id, person.organizationId);

  // The person is signed in; asked again, they deny.
  const { expectedState } = await request(page, { prompt: "consent" });
  await review(page, "Wiki");
  await page.getByRole("button", { name: "Deny" }).click();
  const denied = (await receive(page, "GET")).parameters;
  assert.equal(denied.error, "access_denied");
  assert.deepEqual([denied.state, denied.iss], [expectedState, server]);

  // The answer is posted: by the consent page, or by a page of its own if nobody is asked.
  const posted = { response_mode: "form_post" };
  const first = await request(page, { ...posted, prompt: "consent" });
  await review(page, "Wiki");
  await page.getByRole("button", { name: "Allow" }).click();
  await client.authorizationCodeGrant(config, (await receive(page, "POST")).answer, first);
  const second = await request(page, posted);
  await client.authorizationCodeGrant(config, (await receive(page, "POST")).answer, second);
}

async function grantToDevice() {
  const tool = await person.registerApp({
    name: "Tool", applicationType: "native", tokenEndpointAuthMethod: "none",
    redirectUris: ["http://127.0.0.1/callback"], scopes: ["projects:read"],
  });
  const options = { algorithm: "oauth2" };
  const ofTool = await discover(server, tool.clientId, client.None(), {}, options);
  const started = await client.initiateDeviceAuthorization(ofTool, { scope: "projects:read" });
  const polling = client.pollDeviceAuthorizationGrant(ofTool, started);
  const page = await openBrowser();
  await page.goto(started.verification_uri);
  await signIn(page);
  await page.getByRole("heading", { name: "Connect a device" }).waitFor();
  await page.getByLabel("Code").fill(started.user_code.toLowerCase());
  await page.getByRole("button", { name: "Continue" }).click();
  await review(page, "Tool");
  await page.getByRole("button", { name: "Allow" }).click();
  await page.getByText("Access was granted. Return to your device.").waitFor();
  const tokens = await polling;
  assert.equal(tokens.scope, "projects:read");
  assert.equal(tokens.organization_id, person.organizationId);
}

await runFlows(grantToApp, grantToDevice);
callback.close();
