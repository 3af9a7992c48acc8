// Checks the API keys of your customers with Tenantry, for Express 4 and 5. Needs Node 18.17 or later.
//
//   import { tenantry } from "./express.mjs";
//   app.use(tenantry());                           // every route below needs a valid key; or, with a scope:
//   app.get("/docs/:id", tenantry.require("docs:read"), (req, res) => res.json(req.tenantry.organization.id));
//
// - TENANTRY_URL is http://…, https://… or unix:/path. TENANTRY_VERIFIER is the secret in VERIFIER_KEYS, without
//   its name; a unix socket of VERIFY_ADDR needs none. The program does not start without them.
// - A handler runs only after Tenantry answered, during this request, that the key is valid. Nothing is cached.
//   `req.tenantry` has `organization`, `key`, `account` (null for an organization's key) and `scopes`. Nothing in it
//   comes from the client's request.
// - `require("a:read", "b:read")` needs both scopes, `require([["a:read"], ["b:read"]])` either. Behind `tenantry()` it
//   uses that verdict if it is for an organization's key that has the scopes. Otherwise it makes a check of its own,
//   with the route's template behind its router's actual path. Each check that accepts counts as usage.
// - The answer is 401, 403 or 429 as the verdict says, 400 for two credentials, and 503 if there is no verdict within
//   500 ms. Only a refused connection is tried again, once.
// - The client's address is `req.ip`: behind a proxy, set `trust proxy` to exactly your proxies.
import http from "node:http";
import https from "node:https";
import { isIP } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const DEADLINE_MS = 500, RETRY_AFTER_MS = 100;
const isScope = (it) => typeof it === "string" && /^(\*|[a-z][a-z0-9-]*:(\*|[a-z][a-z0-9-]*))$/.test(it);
const INVALID = "This credential is not valid"; // one text for all, so that nobody learns which keys exist
const REJECTIONS = new Map([
  ...["key_malformed", "key_unknown", "key_revoked", "key_expired", "key_rotated", "key_disabled", "owner_disabled"]
    .map((code) => [code, [401, INVALID]]),
  ["scope_missing", [403, "This credential lacks a required scope"]],
  ["organization_suspended", [403, "This organization is suspended"]],
  ["origin_not_allowed", [403, "This credential may not be used from this origin"]],
  ["address_not_allowed", [403, "This credential may not be used from this address"]],
  ["address_unknown", [403, "This credential may not be used from an unknown address"]],
  ["rate_limited", [429, "Too many requests"]],
  ["quota_exceeded", [429, "The monthly quota of requests is used up"]],
  ["credits_exhausted", [429, "The credits are used up"]],
]);
const verdicts = new WeakMap(); // by request
let server;

/** Checks the key of every request. */
export const tenantry = () => middleware([]);
/** Checks the key and its scopes: all of the arguments, or all of any list of one array of lists. */
tenantry.require = (...scopes) => {
  const lists = Array.isArray(scopes[0]) && scopes.length === 1 ? scopes[0] : [scopes];
  const isList = (list) => Array.isArray(list) && list.length > 0 && list.every(isScope);
  if (lists.length === 0 || !lists.every(isList)) throw new TypeError("must be scopes, or an array of lists of scopes");
  return middleware(lists);
};

function middleware(scopes) {
  server ??= readSettings();
  return async (req, res, next) => {
    const rejection = await decide(req, scopes).catch((error) => {
      console.error(`tenantry: credential check failed: ${error.message}`);
      return reject(503, "unavailable", "The credential could not be checked", { "Retry-After": "1" });
    });
    if (rejection) res.status(rejection.status).set(rejection.headers).json({ error: rejection.error });
    else next();
  };
}

const reject = (status, code, message, headers = {}, details = {}) =>
  ({ status, headers, error: { code, message, ...details } });
const unauthorized = (message) => reject(401, "unauthorized", message, { "WWW-Authenticate": "Bearer" });

/** Returns why the request is rejected; undefined if it may pass. Throws if that is not known. */
async function decide(req, scopes) {
  const known = verdicts.get(req);
  if (known && isCovered(scopes, known)) return;
  const sent = (name) => req.rawHeaders.filter((_, i) => i % 2 && req.rawHeaders[i - 1].toLowerCase() === name);
  const keys = sent("x-api-key");
  const bearers = sent("authorization").map((text) => /^bearer +(.*)$/i.exec(text)?.[1].trim() ?? "");
  const [key, other] = [...keys, ...bearers];
  if (key === undefined) return unauthorized("A credential is required");
  if (keys.length > 1 || bearers.length > 1 || (other !== undefined && other !== key)) {
    return reject(400, "credentials_conflict", "The request has two credentials; send one");
  }
  if (!/^[\x21-\x7e]{1,512}$/.test(key)) return unauthorized(INVALID);
  const verdict = await check({
    key,
    scopes: scopes.length ? scopes : undefined,
    client: { ip: readAddress(req.ip), origin: readOrigin(sent("origin")) },
    resource: req.route ? `${req.method} ${req.baseUrl}${req.route.path}`.slice(0, 128) : undefined,
  });
  if (verdict.valid) {
    const { organization, key, account } = verdict;
    verdicts.set(req, (req.tenantry = Object.freeze({ organization, key, account, scopes: key.scopes })));
    return;
  }
  const [status, message] = REJECTIONS.get(verdict.code);
  if (status === 401) return unauthorized(message);
  const wait = status === 429 && Number.isInteger(verdict.retry_after) ? { "Retry-After": verdict.retry_after } : {};
  const details = verdict.code === "scope_missing" ? { missing_scopes: verdict.missing_scopes } : {};
  return reject(status, verdict.code, message, wait, details);
}

/** Whether an organization's key covers the scopes. Tenantry decides for accounts, which also need the role. */
const isCovered = (lists, own) => !lists.length || (!own.account && lists.some((list) => list.every((scope) =>
  own.scopes.some((it) => it === "*" || it === scope || (it.endsWith(":*") && scope.startsWith(it.slice(0, -1)))))));
/** Text that is no address is left out. Text that is no origin becomes one that no organization allows. */
const readAddress = (text) => [text?.split("%")[0]].find(isIP);
const readOrigin = ([origin, ...more]) =>
  origin === undefined || (more.length === 0 && /^[\x21-\x7e]{1,256}$/.test(origin)) ? origin : "null";

/** Returns the verdict. Throws if there is none that can be relied on. */
async function check(request) {
  const body = JSON.stringify(request), signal = AbortSignal.timeout(DEADLINE_MS);
  const text = await post(body, signal).catch(async (error) => {
    if (error.code !== "ECONNREFUSED") throw error;
    await sleep(RETRY_AFTER_MS, undefined, { signal });
    return post(body, signal);
  });
  const verdict = JSON.parse(text), hasId = (it) => typeof it?.id === "string";
  const isNullOrHasId = (it) => it === null || hasId(it);
  const isAccepted = verdict?.valid === true && verdict.code === "valid" && hasId(verdict.key) &&
    Array.isArray(verdict.key.scopes) && [verdict.organization, verdict.account].every(isNullOrHasId);
  const isRejected = verdict?.valid === false && REJECTIONS.has(verdict.code);
  if (!isAccepted && !isRejected) throw new Error("the response is not a verdict");
  return verdict;
}

function post(body, signal) {
  return new Promise((resolve, reject) => {
    const request = server.module.request(server.url, { ...server.options, signal }, async (response) => {
      try {
        let text = "";
        for await (const part of response.setEncoding("utf8")) text += part;
        if (response.statusCode !== 200) throw new Error(`the status is ${response.statusCode}`);
        resolve(text);
      } catch (error) {
        reject(error);
      }
    });
    request.on("error", reject).end(body);
  });
}

function readSettings() {
  const { TENANTRY_URL: url = "", TENANTRY_VERIFIER: secret = "" } = process.env;
  const socketPath = /^unix:(\/.+)$/.exec(url)?.[1];
  const isWeb = /^https?:\/\/[^/]/.test(url);
  if (!socketPath && !isWeb) throw new Error("TENANTRY_URL must be http://…, https://… or unix:/path");
  if (!socketPath && !secret) throw new Error("TENANTRY_VERIFIER must be the verifier's secret");
  const module = url.startsWith("https:") ? https : http;
  const agent = new module.Agent({ keepAlive: true, maxFreeSockets: 256, timeout: 30_000 });
  const headers = { "Content-Type": "application/json", ...(secret && { "X-Tenantry-Verifier": secret }) };
  const base = socketPath ? "http://localhost" : url.replace(/\/+$/, "");
  return { module, url: new URL(`${base}/v1/verify`), options: { method: "POST", agent, socketPath, headers } };
}
