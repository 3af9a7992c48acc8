// A program behind ../fastify.mjs, for ../check.
import Fastify from "fastify";
import { tenantry } from "./tenantry.mjs";

const app = Fastify();
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
