// The program with which ../check tests ../express.mjs, which it copies next to this one as tenantry.mjs.
import express from "express";
import { tenantry } from "./tenantry.mjs";

const app = express();
const mistakes = { "no scope": [], "no list": [[]], "an empty list": [[[]]], "not a scope": ["docs:read docs:write"] };
if (process.env.MISTAKE) tenantry.require(...mistakes[process.env.MISTAKE]);
const show = (req, res) =>
  res.json({ organization: req.tenantry.organization.id, key: req.tenantry.key.id, scopes: req.tenantry.scopes });
app.get("/docs/:id", tenantry.require("docs:read"), show);
app.get("/both", tenantry.require("docs:read", "docs:write"), show);
app.get("/either", tenantry.require([["docs:write"], ["docs:read"]]), show);
app.use(tenantry());
app.get("/any", show);
app.get("/twice", tenantry.require("docs:read"), show);
app.listen(Number(process.env.PORT), "127.0.0.1");
