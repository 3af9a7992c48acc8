// Runs the checks of the protocol against a certified provider: a check that fails here asks for
// more than the specifications do.

import * as client from "openid-client";

import { checkDevice, checkSignIn, discover } from "./protocol.mjs";
import { startReferenceProvider } from "./reference_provider.mjs";

const { issuer, wiki, tool, person, stop } = await startReferenceProvider();
try {
  const secret = client.ClientSecretBasic(wiki.client_secret);
  const config = await discover(issuer, wiki.client_id, secret);
  await checkSignIn(config, person, "openid profile email projects:read offline_access");
  const ofTool = await discover(issuer, tool.client_id, client.None());
  await checkDevice(ofTool, person, "openid projects:read offline_access");
} finally {
  stop();
}
