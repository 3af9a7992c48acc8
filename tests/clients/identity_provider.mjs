// An identity provider for tests of single sign-on: oidc-provider, a certified OpenID provider,
// with a sign-in that shows no pages.
//
// Usage: `node identity_provider.mjs '{"redirectUris": ["https://…/callback"]}'`. It prints one
// line of JSON, {"issuer", "clientId", "clientSecret"}, and ends when its standard input does.
// Members of the argument, all optional, and of the JSON of `POST {issuer}/control`, which answers
// 204 when the change is effective:
//
// - `redirectUris`: the redirect URIs of the client that was printed.
// - `client`: further metadata of that client, for example
//   {"id_token_signed_response_alg": "ES256"} (RS256 by default), or
//   {"token_endpoint_auth_method": "client_secret_post"}.
// - `clients`: all clients beside that one, as oidc-provider's configuration has them.
// - `claims`: {sub: {claim: value}}: claims of each account, in the ID token and at the userinfo
//   endpoint. `groups`, or `email_verified` of any JSON type, are claims like others. An account
//   without them has only its `sub`.
// - `nextLogin`: the `sub` that signs in, at each authorization request from now on. With null,
//   each is answered with the error `access_denied`.
// - `idToken`: {claim: value}: set in each ID token before it is signed; null omits the claim. Here
//   also `iss`, `aud`, `sub`, `exp`, `nonce` and so on may be wrong.
// - `idTokenHeader`: the same for its header. It is signed as `alg` says: RS256, ES256, HS256 (with
//   the client secret), or none.
// - `userinfo`: {claim: value}: set in each response of the userinfo endpoint, also `sub`.
// - `discovery`: {member: value}: set in the discovery document; null omits the member.
// - `rotateKeys`: true replaces the keys by new ones at once; "publish" adds new ones, which sign,
//   and publishes the old ones, too.
// - `now`: the time of its clock, such as "2036-05-08T09:56:42Z", which runs on from there.
//
// An authorization request leads through redirects, during which the client must keep cookies, to
// `redirect_uri?code=…`. Each one signs in anew: the provider remembers no session.

import { createHmac, generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

import Provider from "oidc-provider";

const clientId = "tenantry";
const clientSecret = `secret-of-tenantry-${randomUUID()}`;
const state = {
  redirectUris: [],
  client: {},
  clients: [],
  claims: {},
  nextLogin: "ann",
  idToken: {},
  idTokenHeader: {},
  userinfo: {},
  discovery: {},
};

function newKeys() {
  return [
    { alg: "RS256", ...generateKeyPairSync("rsa", { modulusLength: 2048 }) },
    { alg: "ES256", ...generateKeyPairSync("ec", { namedCurve: "P-256" }) },
  ].map(({ alg, privateKey }) => ({ kid: randomUUID(), alg, privateKey }));
}

let keys = newKeys();

const realNow = Date.now;
let offset = 0;
Date.now = () => realNow() + offset;

// Sets the members of `changes` in an object, and omits those that are null.
function change(object, changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) delete object[name];
    else object[name] = value;
  }
  return object;
}

const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const decode = (part) => JSON.parse(Buffer.from(part, "base64url").toString());

// Signs an ID token again, with the changed claims and header.
function changed(token) {
  if (!Object.keys({ ...state.idToken, ...state.idTokenHeader }).length) return token;
  const [header, payload] = token.split(".").slice(0, 2).map(decode);
  const { alg: signedAs } = header;
  change(header, state.idTokenHeader);
  const alg = header.alg ?? signedAs;
  const text = `${encode(header)}.${encode(change(payload, state.idToken))}`;
  const key = keys.find((it) => it.alg === alg)?.privateKey;
  if (alg === "none") return `${text}.`;
  const signature =
    alg === "HS256"
      ? createHmac("sha256", clientSecret).update(text).digest()
      : sign("sha256", Buffer.from(text), { key, dsaEncoding: "ieee-p1363" });
  return `${text}.${signature.toString("base64url")}`;
}

function configuration() {
  const client = {
    client_id: clientId,
    client_secret: clientSecret,
    redirect_uris: state.redirectUris,
    grant_types: ["authorization_code"],
    response_types: ["code"],
    ...state.client,
  };
  const named = Object.values(state.claims).flatMap((claims) => Object.keys(claims));
  const openid = [...new Set(["sub", ...named])];
  return {
    clients: [client, ...state.clients],
    // Scopes select no claims: every ID token has all of them.
    claims: { openid, profile: [], email: [] },
    conformIdTokenClaims: false,
    cookies: { keys: ["a-secret-of-the-cookies"] },
    enabledJWA: { idTokenSigningAlgValues: ["RS256", "ES256"] },
    features: { devInteractions: { enabled: false } },
    findAccount: (_, sub) => ({
      accountId: sub,
      claims: () => ({ sub, ...state.claims[sub] }),
    }),
    interactions: { url: (_, { uid }) => `/interaction/${uid}` },
    jwks: {
      keys: keys.map(({ kid, alg, privateKey }) => ({
        ...privateKey.export({ format: "jwk" }),
        kid,
        alg,
        use: "sig",
      })),
    },
    // Each account consents to everything.
    async loadExistingGrant({ oidc }) {
      const { client, provider, session } = oidc;
      const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
      grant.addOIDCScope("openid profile email groups offline_access");
      await grant.save();
      return grant;
    },
    pkce: { required: () => false },
    scopes: ["openid", "profile", "email", "groups", "offline_access"],
  };
}

async function finishInteraction(provider, request, response) {
  const result = state.nextLogin
    ? { login: { accountId: state.nextLogin } }
    : { error: "access_denied", error_description: "the account does not agree" };
  await provider.interactionFinished(request, response, result);
}

function newProvider(issuer) {
  const provider = new Provider(issuer, configuration());
  const { issue } = provider.IdToken.prototype;
  provider.IdToken.prototype.issue = async function (options) {
    const token = await issue.call(this, options);
    return options?.use === "idtoken" ? changed(token) : token;
  };
  provider.use(async (context, next) => {
    await next();
    if (typeof context.body !== "object" || context.status !== 200) return;
    if (context.path === "/me") change(context.body, state.userinfo);
    if (context.path === "/.well-known/openid-configuration") {
      context.body = change({ ...context.body }, state.discovery);
    }
  });
  return provider;
}

function apply({ rotateKeys, now, ...changes }) {
  if (rotateKeys) keys = rotateKeys === "publish" ? [...newKeys(), ...keys] : newKeys();
  if (now) offset = Date.parse(now) - realNow();
  for (const name of Object.keys(changes)) {
    if (!(name in state)) throw new Error(`there is no ${name}`);
  }
  Object.assign(state, changes);
}

async function control(request, response) {
  let text = "";
  for await (const chunk of request) text += chunk;
  try {
    apply(JSON.parse(text));
    provider = newProvider(issuer);
    response.writeHead(204).end();
  } catch (error) {
    response.writeHead(400).end(`${error}`);
  }
}

apply(JSON.parse(process.argv[2] ?? "{}"));
const server = createServer().listen(0, "127.0.0.1");
await once(server, "listening");
const issuer = `http://127.0.0.1:${server.address().port}`;
let provider = newProvider(issuer);
server.on("request", async (request, response) => {
  const { pathname } = new URL(request.url, issuer);
  if (pathname === "/control" && request.method === "POST") return control(request, response);
  // Otherwise the second sign-in of a browser would skip the interaction.
  if (pathname === "/auth") {
    const cookies = (request.headers.cookie ?? "").split(/; */);
    request.headers.cookie = cookies.filter((it) => !it.startsWith("_session")).join("; ");
  }
  if (!pathname.startsWith("/interaction/")) return provider.callback()(request, response);
  try {
    await finishInteraction(provider, request, response);
  } catch (error) {
    response.writeHead(400).end(`${error}`);
  }
});
// oidc-provider prints notices, also when the reader of the first line has gone.
process.stdout.on("error", () => {});
process.stdin.resume().on("end", () => process.exit());
console.log(JSON.stringify({ issuer, clientId, clientSecret }));
