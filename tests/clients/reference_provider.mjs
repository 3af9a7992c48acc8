// oidc-provider, a certified OpenID provider, in this process, with an app, a command line tool,
// and a person who agrees to everything.

import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

import Provider from "oidc-provider";

import { Person } from "./person.mjs";
import { redirectUri } from "./protocol.mjs";

const clients = [
  {
    client_id: "wiki",
    client_secret: "a-secret-of-the-wiki",
    redirect_uris: [redirectUri],
    grant_types: ["authorization_code", "refresh_token"],
  },
  {
    client_id: "tool",
    application_type: "native",
    token_endpoint_auth_method: "none",
    redirect_uris: ["http://127.0.0.1/callback"],
    grant_types: ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
    response_types: [],
  },
];

function configuration() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const claims = { name: "Ann Example", email: "ann@example.com", email_verified: true };
  return {
    clients,
    claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"] },
    cookies: { keys: ["a-secret-of-the-cookies"] },
    features: { deviceFlow: { enabled: true }, revocation: { enabled: true } },
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId, ...claims }) }),
    jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), alg: "RS256", use: "sig" }] },
    pkce: { required: () => true },
    scopes: ["openid", "offline_access", "projects:read"],
  };
}

const login = { login: "ann", password: "any" };

// A person in a browser, who submits the forms of the provider's own pages.
class ReferencePerson extends Person {
  constructor(issuer) {
    super();
    this.issuer = issuer;
  }

  // Opens a URL of the provider and submits each form that it shows, with these fields beside its
  // hidden ones. Returns the URL elsewhere or the page to which that leads: one without a form, or
  // with this text.
  async follow(url, fields, text) {
    let init;
    for (let steps = 0; steps < 20; steps++) {
      if (new URL(url).origin !== this.issuer) return url;
      const response = await this.fetch(url, init);
      init = undefined;
      const location = response.headers.get("location");
      if (location) {
        url = new URL(location, url).href;
        continue;
      }
      const page = await response.text();
      const action = page.match(/<form[^>]* action="([^"]+)"/)?.[1];
      if (!action || (text && page.includes(text))) return page;
      const hidden = page.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)"/g);
      const inputs = [...hidden].map(([, name, value]) => [name, value]);
      const body = new URLSearchParams({ ...fields, ...Object.fromEntries(inputs) });
      [url, init] = [new URL(action, url).href, { method: "POST", body }];
    }
    throw new Error(`${url} leads nowhere`);
  }

  authorize(url) {
    return this.follow(url, login);
  }

  approve(userCode) {
    return this.follow(`${this.issuer}/device`, { user_code: userCode, ...login });
  }

  deny(userCode) {
    const fields = { user_code: userCode, abort: "yes" };
    return this.follow(`${this.issuer}/device`, fields, "request was interrupted");
  }
}

// Starts the provider; returns its issuer, its clients, the person, and what stops it.
export async function startReferenceProvider() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration());
  server.on("request", provider.callback());
  const [wiki, tool] = clients;
  return { issuer, wiki, tool, person: new ReferencePerson(issuer), stop: () => server.close() };
}
