// A person with an account at the server at TENANTRY_URL, in a browser with a cookie jar. They sign in
// and consent by posting what the pages' scripts post. MAILS is the folder of mails.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const server = process.env.TENANTRY_URL;
export const email = "ann@example.com";
export const password = "a-long-secure-passphrase";

async function mailedToken() {
  for (let tries = 0; tries < 300; tries++) {
    let names = [];
    try {
      names = readdirSync(process.env.MAILS);
    } catch {
      // No mail has been sent.
    }
    for (const name of names) {
      const text = readFileSync(`${process.env.MAILS}/${name}`, "utf8").replace(/=\r?\n/g, "");
      const found = text.match(/verify-email\?token=(?:3D)?([\w-]+)/);
      if (found) return found[1];
    }
    await sleep(100);
  }
  throw new Error("no mail came");
}

export class Person {
  #jar = new Map();

  // Fetches a URL with the cookies of its origin, and follows no redirect.
  async fetch(url, init = {}) {
    const { origin } = new URL(url);
    const jar = this.#jar.get(origin) ?? new Map();
    this.#jar.set(origin, jar);
    const cookies = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const headers = { ...init.headers, ...(cookies && { cookie: cookies }) };
    const response = await fetch(url, { ...init, headers, redirect: "manual" });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = cookie.match(/^([^=]+)=([^;]*)/);
      if (value) jar.set(name, value);
      else jar.delete(name);
    }
    return response;
  }

  async post(path, body, expected = 200) {
    const headers = { "content-type": "application/json" };
    const init = { method: "POST", headers, body: JSON.stringify(body) };
    const response = await this.fetch(server + path, init);
    const text = await response.text();
    assert.equal(response.status, expected, `${path}: ${text}`);
    return JSON.parse(text);
  }

  // Creates an account with a verified address.
  static async signUp() {
    const person = new Person();
    await person.post("/api/auth/sign-up/email", { email, password, name: "Ann Example" });
    await person.post("/api/auth/verify-email", { token: await mailedToken() });
    await person.post("/api/auth/sign-in/email", { email, password });
    const organizations = await person.fetch(`${server}/api/user/organizations`);
    person.organizationId = (await organizations.json()).data[0].id;
    return person;
  }

  // Registers an app of the person's organization; returns its id and its secret.
  async registerApp(attributes) {
    const path = `/api/user/organizations/${this.organizationId}/apps`;
    return (await this.post(path, attributes, 201)).data;
  }

  // Opens the URL of an authorization request in a browser in which nobody is signed in, signs in and
  // grants what is asked; returns the URL that the browser is sent to.
  async authorize(url) {
    this.#jar.delete(new URL(server).origin);
    const begun = await this.fetch(url);
    assert.equal(begun.status, 303, await begun.text());
    const signIn = new URL(begun.headers.get("location"), server);
    assert.equal(signIn.pathname, "/oauth2/sign-in");
    assert.equal((await this.fetch(signIn)).status, 200);
    await this.post("/api/auth/sign-in/email", { email, password });
    const request = signIn.searchParams.get("request");
    const consent = await this.fetch(`${server}/oauth2/consent?request=${request}`);
    const page = await consent.text();
    assert.equal(consent.status, 200, page);
    const scopes = [...page.matchAll(/name="scopes" value="([^"]*)"/g)].map((it) => it[1]);
    const answer = { request, accept: true, scopes };
    if (page.includes('name="organizationId"')) answer.organizationId = this.organizationId;
    return (await this.post("/oauth2/consent", answer)).redirect;
  }
}
