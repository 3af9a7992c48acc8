// Checks the API keys of your customers with Tenantry, for Hono 4.8 or later, on every runtime that has `fetch`.
//
//   import { connect } from "./hono.mjs";          // getConnInfo is your runtime's, as of "@hono/node-server/conninfo"
//   const tenantry = connect(getConnInfo);         // then, for every route: app.use(tenantry())
//   app.get("/docs/:id", tenantry.require("docs:read"), (c) => c.json(c.get("tenantry").organization.id));
//
// - TENANTRY_URL is http://… or https://… (`fetch` has no unix sockets). TENANTRY_VERIFIER is the secret in
//   VERIFIER_KEYS, without its name. Both are read per request with hono/adapter; without them, the answer is 503.
// - A handler runs only after Tenantry answered, during this request, that the key is valid. Nothing is cached.
//   `c.get("tenantry")` has `organization`, `key`, `account` (null for an organization's key) and `scopes`. Nothing in
//   it comes from the client's request.
// - `require("a:read", "b:read")` needs both scopes, `require([["a:read"], ["b:read"]])` either. Behind `tenantry()` it
//   uses that verdict if it is for an organization's key that has the scopes. Otherwise it makes a check of its own.
//   Each check that accepts counts as usage.
// - The answer is 401, 403 or 429 as the verdict says, 400 for two credentials, and 503 if there is no verdict within
//   500 ms. Only a refused connection is tried again, once.
// - The client's address is that of getConnInfo, which is a proxy's if there is one. Then pass a function of your own
//   in its place, which returns `{ remote: { address } }`, with the address as your proxy reports it.
import { env } from "hono/adapter";
import { matchedRoutes } from "hono/route";

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

/** Returns the middlewares. `getConnInfo` returns the client's address. */
export function connect(getConnInfo) {
  if (typeof getConnInfo !== "function") throw new TypeError("getConnInfo must be a function");
  const middleware = (scopes) => async (c, next) => {
    const rejection = await decide(c, scopes, getConnInfo).catch((error) => {
      console.error(`tenantry: credential check failed: ${error.cause?.message || error.message}`);
      return reject(503, "unavailable", "The credential could not be checked", { "Retry-After": "1" });
    });
    if (rejection) return c.json({ error: rejection.error }, rejection.status, rejection.headers);
    await next();
  };
  /** Checks the key of every request. */
  const tenantry = () => middleware([]);
  /** Checks the key and its scopes: all of the arguments, or all of any list of one array of lists. */
  tenantry.require = (...scopes) => {
    const lists = Array.isArray(scopes[0]) && scopes.length === 1 ? scopes[0] : [scopes];
    const isList = (list) => Array.isArray(list) && list.length > 0 && list.every(isScope);
    if (!lists.length || !lists.every(isList)) throw new TypeError("must be scopes, or an array of lists of scopes");
    return middleware(lists);
  };
  return tenantry;
}

const reject = (status, code, message, headers = {}, details = {}) =>
  ({ status, headers, error: { code, message, ...details } });
const unauthorized = (message) => reject(401, "unauthorized", message, { "WWW-Authenticate": "Bearer" });

/** Returns why the request is rejected; undefined if it may pass. Throws if that is not known. */
async function decide(c, scopes, getConnInfo) {
  const known = verdicts.get(c);
  if (known && isCovered(scopes, known)) return;
  const header = c.req.header("x-api-key"), authorization = c.req.header("authorization");
  if (header === undefined && authorization === undefined) return unauthorized("A credential is required");
  const bearer = authorization && (/^bearer +(.*)$/i.exec(authorization)?.[1].trim() ?? "");
  const key = header ?? bearer;
  // A header that was sent twice has both values, separated by a comma and a space.
  if (/, /.test(`${header} ${authorization}`) || (bearer !== undefined && bearer !== key)) {
    return reject(400, "credentials_conflict", "The request has two credentials; send one");
  }
  if (!/^[\x21-\x7e]{1,512}$/.test(key)) return unauthorized(INVALID);
  const verdict = await check(env(c), {
    key,
    scopes: scopes.length ? scopes : undefined,
    client: { ip: readAddress(getConnInfo(c).remote.address), origin: readOrigin(c.req.header("origin")) },
    // The routes of app.use() are no templates.
    resource: [c.req.method, matchedRoutes(c).findLast((it) => it.method !== "ALL")?.path].join(" ").slice(0, 128),
  });
  if (verdict.valid) {
    const { organization, key, account } = verdict;
    verdicts.set(c, Object.freeze({ organization, key, account, scopes: key.scopes }));
    return c.set("tenantry", verdicts.get(c));
  }
  const [status, message] = REJECTIONS.get(verdict.code);
  if (status === 401) return unauthorized(message);
  const isKnown = status === 429 && Number.isInteger(verdict.retry_after);
  const wait = isKnown ? { "Retry-After": `${verdict.retry_after}` } : {};
  const details = verdict.code === "scope_missing" ? { missing_scopes: verdict.missing_scopes } : {};
  return reject(status, verdict.code, message, wait, details);
}

/** Whether an organization's key covers the scopes. Tenantry decides for accounts, which also need the role. */
const isCovered = (lists, own) => !lists.length || (!own.account && lists.some((list) => list.every((scope) =>
  own.scopes.some((it) => it === "*" || it === scope || (it.endsWith(":*") && scope.startsWith(it.slice(0, -1)))))));
/** Text that is no address is left out. Text that is no origin becomes one that no organization allows. */
const readAddress = (text) => [text?.split("%")[0]].find((it) =>
  /^[0-9a-f:.]+$/i.test(it) && URL.canParse(it.includes(":") ? `http://[${it}]` : `http://${it}`));
const readOrigin = (text) => (text === undefined || /^[\x21-\x7e]{1,256}$/.test(text) ? text : "null");

/** Returns the verdict. Throws if there is none that can be relied on. */
async function check({ TENANTRY_URL: url, TENANTRY_VERIFIER: secret }, request) {
  if (!/^https?:\/\//.test(url)) throw new Error("TENANTRY_URL must be http://… or https://…");
  if (!secret) throw new Error("TENANTRY_VERIFIER must be the verifier's secret");
  const headers = { "Content-Type": "application/json", "X-Tenantry-Verifier": secret };
  const signal = AbortSignal.timeout(DEADLINE_MS);
  const options = { method: "POST", headers, body: JSON.stringify(request), redirect: "manual", signal };
  const post = () => fetch(`${url.replace(/\/+$/, "")}/v1/verify`, options);
  const response = await post().catch(async (error) => {
    if (!["ECONNREFUSED", "ConnectionRefused"].includes(error.cause?.code ?? error.code)) throw error;
    await new Promise((resolve) => setTimeout(resolve, RETRY_AFTER_MS));
    return post();
  });
  const text = await response.text();
  if (response.status !== 200) throw new Error(`the status is ${response.status}`);
  const verdict = JSON.parse(text), hasId = (it) => typeof it?.id === "string";
  const isNullOrHasId = (it) => it === null || hasId(it);
  const isAccepted = verdict?.valid === true && verdict.code === "valid" && hasId(verdict.key) &&
    Array.isArray(verdict.key.scopes) && [verdict.organization, verdict.account].every(isNullOrHasId);
  const isRejected = verdict?.valid === false && REJECTIONS.has(verdict.code);
  if (!isAccepted && !isRejected) throw new Error("the response is not a verdict");
  return verdict;
}
