// The program with which ../check tests ../fastify.mjs, which it copies next to this one as tenantry.mjs.
import Fastify from "fastify";
import { tenantry } from "./tenantry.mjs";

const app = Fastify();
const mistakes = { "no scope": [], "no list": [[]], "an empty list": [[[]]], "not a scope": ["docs:read docs:write"] };
if (process.env.MISTAKE) tenantry.require(...mistakes[process.env.MISTAKE]);
const show = ({ tenantry }) =>
  ({ organization: tenantry.organization.id, key: tenantry.key.id, scopes: tenantry.scopes });
app.get("/docs/:id", { onRequest: tenantry.require("docs:read") }, show);
app.get("/both", { onRequest: tenantry.require("docs:read", "docs:write") }, show);
app.get("/either", { onRequest: tenantry.require([["docs:write"], ["docs:read"]]) }, show);
app.register(async (all) => {
  all.addHook("onRequest", tenantry());
  all.get("/any", show);
  all.get("/twice", { onRequest: tenantry.require("docs:read") }, show);
});
await app.listen({ port: Number(process.env.PORT), host: "127.0.0.1" });
