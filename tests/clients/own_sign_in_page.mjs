// The script of the README for a sign-in page of the operator's own, on the page at PAGE of the
// server at TENANTRY_URL, in Chromium: it leads to the pages for consent and for devices.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

import { openBrowser, runFlows } from "./chromium.mjs";
import { Person, email, password } from "./person.mjs";

const server = process.env.TENANTRY_URL;
const page = new URL(process.env.PAGE);

const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
const documented = '"https://id.example.com"';
const [, script] = readme.match(/```js\n(const api = "https:\/\/id\.example\.com"[^]*?)```/);
assert.ok(script.includes(documented));
const html = `<!doctype html><title>Log in</title><link rel="icon" href="data:,">
<form><input aria-label="E-mail"><input aria-label="Password" type="password"><button>Log in</button>
</form><script>
${script.replace(documented, JSON.stringify(server))}
document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(...[...document.querySelectorAll("input")].map((it) => it.value));
});
</script>`;
const dashboard = createServer((_, response) => {
  response.setHeader("content-type", "text/html");
  response.end(html);
});
dashboard.listen(page.port, page.hostname);
await once(dashboard, "listening");

async function logIn(browser, parameter) {
  await browser.waitForURL((url) => url.href.startsWith(`${page}?${parameter}=`));
  await browser.getByLabel("E-mail").fill(email);
  await browser.getByLabel("Password").fill(password);
  await browser.getByRole("button", { name: "Log in" }).click();
}

async function leadsToConsent() {
  const person = await Person.signUp();
  const redirectUri = "https://app.example.com/callback";
  const app = await person.registerApp({
    name: "Wiki", redirectUris: [redirectUri], scopes: ["projects:read"],
  });
  const request = new URLSearchParams({
    response_type: "code", client_id: app.clientId, redirect_uri: redirectUri,
    code_challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", code_challenge_method: "S256",
  });
  for (const prompt of ["", "login"]) {
    request.set("prompt", prompt);
    const browser = await openBrowser();
    await browser.goto(`${server}/oauth2/authorize?${request}`);
    await logIn(browser, "request");
    await browser.getByRole("heading", { name: "Wiki requests access" }).waitFor();
    await browser.getByText(`You are signed in as ${email}.`).waitFor();
    // Someone else can sign in.
    await browser.getByRole("link", { name: "Use another account" }).click();
    await logIn(browser, "request");
    await browser.getByRole("heading", { name: "Wiki requests access" }).waitFor();
  }
}

async function leadsToDevice() {
  const browser = await openBrowser();
  await browser.goto(`${server}/device?user_code=WDJB-MJHT`);
  await logIn(browser, "user_code");
  await browser.getByRole("heading", { name: "Connect a device" }).waitFor();
  assert.equal(await browser.getByLabel("Code").inputValue(), "WDJB-MJHT");
}

await runFlows(leadsToConsent, leadsToDevice);
dashboard.close();
