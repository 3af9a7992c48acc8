// Starts Apache with mod_auth_openidc in front of a page, signs a person in there by way of the server
// at TENANTRY_URL, and reads the page. APACHE is the program, PORT its port; the current folder is for
// its files.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { Person } from "./person.mjs";

const server = process.env.TENANTRY_URL;
const site = `http://127.0.0.1:${process.env.PORT}`;
const folder = `${process.cwd()}/apache`;
const modules = "/usr/lib/apache2/modules";
const person = await Person.signUp();
const app = await person.registerApp({
  name: "Intranet",
  redirectUris: [`${site}/protected/callback`],
  scopes: ["openid", "profile", "email"],
});

mkdirSync(`${folder}/site/protected`, { recursive: true });
chmodSync(folder, 0o755);
writeFileSync(`${folder}/site/protected/index.html`, "the protected page\n");
const loaded = ["mpm_event", "authn_core", "authz_core", "authz_user", "dir", "headers", "auth_openidc"];
writeFileSync(
  `${folder}/httpd.conf`,
  `ServerRoot "${folder}"
ServerName 127.0.0.1
Listen 127.0.0.1:${process.env.PORT}
PidFile "${folder}/pid"
DefaultRuntimeDir "${folder}"
ErrorLog "${folder}/log"
User www-data
Group www-data
${loaded.map((name) => `LoadModule ${name}_module ${modules}/mod_${name}.so`).join("\n")}
DocumentRoot "${folder}/site"
DirectoryIndex index.html
OIDCProviderMetadataURL ${server}/.well-known/openid-configuration
OIDCClientID ${app.clientId}
OIDCClientSecret ${app.clientSecret}
OIDCProviderTokenEndpointAuth client_secret_basic
OIDCRedirectURI ${site}/protected/callback
OIDCScope "openid profile email"
OIDCPKCEMethod S256
OIDCRemoteUserClaim sub
OIDCCryptoPassphrase 0123456789abcdef0123456789abcdef
<Location /protected>
  AuthType openid-connect
  # Also for requests that do not look like a browser's, such as those of this program.
  OIDCUnAuthAction auth true
  Require claim email:ann@example.com
  Header set X-Person "expr=%{reqenv:OIDC_CLAIM_sub} %{reqenv:OIDC_CLAIM_name}"
  Header set X-Sid "expr=%{reqenv:OIDC_CLAIM_sid}"
</Location>
`,
);
const apache = spawn(process.env.APACHE, ["-f", `${folder}/httpd.conf`, "-DFOREGROUND"], { stdio: "inherit" });
try {
  const page = `${site}/protected/index.html`;
  let first;
  for (let tries = 0; !first; tries++) {
    assert.equal(apache.exitCode, null, "Apache did not start");
    first = await person.fetch(page).catch((error) => {
      if (tries > 100) throw error;
      return sleep(100);
    });
  }
  assert.equal(first.status, 302, await first.text());
  const callback = await person.authorize(first.headers.get("location"));
  const back = await person.fetch(callback);
  assert.equal(back.status, 302, await back.text());
  assert.equal(back.headers.get("location"), page);
  const shown = await person.fetch(page);
  assert.equal(shown.status, 200);
  assert.equal(await shown.text(), "the protected page\n");
  assert.match(shown.headers.get("x-person"), /^acc_\w+ Ann Example$/);
  assert.match(shown.headers.get("x-sid"), /^sess_/);
  // Another browser is sent to the server first.
  assert.equal((await new Person().fetch(page)).status, 302);
} catch (error) {
  console.error(readFileSync(`${folder}/log`, "utf8"));
  throw error;
} finally {
  apache.kill();
}
