// The program with which ../check tests ../hono.mjs, which it copies next to this one as tenantry.mjs.
import { serve } from "@hono/node-server";
import { getConnInfo } from "@hono/node-server/conninfo";
import { Hono } from "hono";
import { connect } from "./tenantry.mjs";

const app = new Hono();
const tenantry = connect(getConnInfo);
const mistakes = { "no scope": [], "no list": [[]], "an empty list": [[[]]], "not a scope": ["docs:read docs:write"] };
if (process.env.MISTAKE) tenantry.require(...mistakes[process.env.MISTAKE]);
const show = (c) => {
  const { organization, key, scopes } = c.get("tenantry");
  return c.json({ organization: organization.id, key: key.id, scopes });
};
app.get("/docs/:id", tenantry.require("docs:read"), show);
app.get("/both", tenantry.require("docs:read", "docs:write"), show);
app.get("/either", tenantry.require([["docs:write"], ["docs:read"]]), show);
app.use(tenantry());
app.get("/any", show);
app.get("/twice", tenantry.require("docs:read"), show);
serve({ fetch: app.fetch, port: Number(process.env.PORT), hostname: "127.0.0.1" });
